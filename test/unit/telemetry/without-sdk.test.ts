import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { federate } from "../../../src/index.ts";
import { tinyRun } from "../../../src/testing/index.ts";

/* In a file of its own: nothing here has imported OpenTelemetry before. */

const { cache } = createRequire(import.meta.url);
const imported = () => Object.keys(cache).filter((file) => file.includes("@opentelemetry"));

test("a run imports OpenTelemetry only where an SDK is registered, and has the same bytes either way", async () => {
  const runsDir = mkdtempSync(path.join(tmpdir(), "prelort-untraced-"));
  onTestFinished(() => rmSync(runsDir, { recursive: true }));
  const run = async (name: string) => (await federate(tinyRun({ runsDir, name, seed: 7 })).result).sha256;
  const untraced = await run("untraced");
  expect(imported()).toEqual([]);

  const { registerSdk, unregisterSdk } = await import("../../support/telemetry.ts");
  const { spans } = registerSdk();
  onTestFinished(unregisterSdk);
  expect(await run("traced")).toBe(untraced);
  expect(imported().length).toBeGreaterThan(0);
  expect(spans.length).toBeGreaterThan(30);

  unregisterSdk();
  const before = spans.length;
  expect(await run("unregistered")).toBe(untraced);
  expect(spans.length).toBe(before);
});
