import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { root, temporaryFolder } from "../support/e2e.ts";

const folder = temporaryFolder();

test("a short chaos campaign with a fixed seed ends with the bytes of an undisturbed run and leaves nothing behind", () => {
  const tsc = path.join(root, "node_modules/.bin/tsc");
  expect(spawnSync(tsc, ["-p", "test/chaos/tsconfig.json"], { cwd: root, encoding: "utf8" })).toMatchObject({ status: 0, stdout: "" });
  const out = path.join(folder(), "chaos.json");
  const args = [".bench/chaos/main.js", "--seed", "3", "--faults", "16", "--kills", "3", "--out", out];
  const { stdout, status } = spawnSync(process.execPath, args, { cwd: root, encoding: "utf8" });
  expect(status, stdout).toBe(0);
  const { struck, killed } = JSON.parse(readFileSync(out, "utf8")) as Record<"struck" | "killed", Record<string, unknown>>;
  expect(struck).toMatchObject({ isEqual: true, leftovers: [] });
  expect(struck["faults"]).toBeGreaterThanOrEqual(16);
  expect(killed).toMatchObject({ runs: 3, equal: 3, leftovers: [] });
});
