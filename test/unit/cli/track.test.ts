import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { trackCommand } from "../../../src/cli/track.ts";
import { ConfigError, EnvironmentError } from "../../../src/errors.ts";

/* No tracker is installed here: what is refused for that has got past everything else. */

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "prelort-track-"));
  vi.stubEnv("PRELORT_CACHE", path.join(folder, "cache"));
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true });
});

const track = (...words: readonly string[]) => trackCommand().parseAsync([folder, ...words], { from: "user" });
const record = (trackers: readonly object[]) => writeFile(path.join(folder, "run.json"), JSON.stringify({ config: { track: trackers } }));

test.each([
  [{ name: "mlflow" }],
  [{ name: "wandb" }],
  [{ name: "wandb", mode: "offline" }],
  [{ name: "mlflow", tracking_uri: "http://h" }],
  [{ name: "trackio", project: "a" }],
])("a tracker %s that only a record names is sent nothing until it is named", async (tracker) => {
  await record([tracker]);
  await expect(track()).rejects.toThrow(ConfigError);
  await expect(track()).rejects.toMatchObject({
    issues: [{ path: "--with", message: expect.stringContaining(JSON.stringify(tracker)) }],
  });
  await expect(track("--with", JSON.stringify(tracker))).rejects.toThrow(EnvironmentError);
});

test("a bare name names a tracker that the record gives no options, and not one that it does", async () => {
  await record([{ name: "mlflow" }]);
  await expect(track("--with", "mlflow")).rejects.toThrow(EnvironmentError);
  await record([{ name: "mlflow", tracking_uri: "http://h" }]);
  await expect(track("--with", "mlflow")).rejects.toThrow(ConfigError);
});

test("trackers whose own stores are on this machine need no naming", async () => {
  await record([{ name: "tensorboard" }, { name: "trackio" }]);
  await expect(track()).rejects.toThrow(EnvironmentError);
});
