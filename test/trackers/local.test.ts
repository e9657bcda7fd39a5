import { execFileSync } from "node:child_process";
import { mkdir, readdir, rm, symlink } from "node:fs/promises";
import path from "node:path";
import process from "node:process";
import { beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { eventually } from "../support/patience.ts";
import { before, expectOnce, readBack, runTracked, temporaryFolder, trackCli, trackersOf } from "../support/tracked-runs.ts";

/* Trackers that keep what they are given on this machine: TensorBoard's event files, Trackio's store, W&B offline. */

beforeEach(async () => {
  vi.stubEnv("TRACKIO_DIR", await temporaryFolder());
  vi.stubEnv("WANDB_MODE", "offline");
  onTestFinished(() => void vi.unstubAllEnvs());
});

const trackers = [
  { name: "tensorboard", read: (directory: string) => readBack("tensorboard", path.join(directory, "tensorboard")), round: Math.fround },
  { name: "trackio", read: () => readBack("trackio", "prelort"), round: (value: number) => value },
  { name: "wandb", read: (directory: string) => readBack("wandb", directory), round: (value: number) => value },
] as const;

test.each(trackers)("$name gets a run's params, metrics, tags and state, each value once", async ({ name, read, round }) => {
  const { directory, sha256 } = await runTracked({ runsDir: await temporaryFolder(), name: "tiny", track: [name] });
  const held = await read(directory);
  await expectOnce(held, directory, round);
  expect(held.state).toBe("finished");
  expect(held.params["lora.tiers"]).toBe("[1, 2, 4, 8]");
  expect(Object.values(held.tags).join("\n")).toContain(sha256);
  expect(await trackCli(directory, "--with", name)).toEqual({ code: 0, output: `${name}: had everything already\n` });
  await expectOnce(await read(directory), directory, round);
});

test.each(trackers)("$name gets everything once although its process is killed twice while a run trains", async ({ name, read, round }) => {
  const runsDir = await temporaryFolder();
  const directory = path.join(runsDir, "tiny");
  const killAt = async (last: number) => {
    await eventually(async () => expect(Object.keys((await read(directory)).values)).toContain(`${last}`));
    process.kill(trackersOf(directory)[0] ?? 0, "SIGKILL");
  };
  const [first, second] = [before(2, () => killAt(0)), before(3, () => killAt(1))];
  await runTracked({
    runsDir,
    name: "tiny",
    track: [name],
    strategy: { selection: async (context) => (await first(context), second(context)) },
  });
  const held = await read(directory);
  await expectOnce(held, directory, round);
  expect(held.runs).toHaveLength(1);
});

test("a run that was trained without a tracker is delivered afterwards", async () => {
  const { directory } = await runTracked({ runsDir: await temporaryFolder(), name: "tiny", track: [] });
  const { code, output } = await trackCli(directory, "--with", "tensorboard", "trackio", "wandb");
  expect([code, output.match(/4 rounds delivered, up to round 3/g)?.length]).toEqual([0, 3]);
  for (const { read, round } of trackers) await expectOnce(await read(directory), directory, round);
});

test("links in place of a run's folders for trackers are refused by name, and a pipe in place of a file is not waited for", async () => {
  const runsDir = await temporaryFolder();
  const { directory } = await runTracked({ runsDir, name: "tiny", track: [] });
  const elsewhere = path.join(runsDir, "elsewhere");
  await mkdir(elsewhere);
  for (const [name, tracker] of [
    ["track", "tensorboard"],
    ["tensorboard", "tensorboard"],
    ["wandb", "wandb"],
  ] as const) {
    await symlink(elsewhere, path.join(directory, name));
    const { code, output } = await trackCli(directory, "--with", tracker);
    expect([code, output]).toEqual([1, expect.stringContaining(`${path.join(directory, name)} is a link`)]);
    await rm(path.join(directory, name));
  }
  expect(await readdir(elsewhere)).toEqual([]);
  const metrics = path.join(directory, "metrics.jsonl");
  await rm(metrics);
  execFileSync("mkfifo", [metrics]);
  const { code, output } = await trackCli(directory, "--with", "tensorboard");
  expect([code, output]).toEqual([1, expect.stringContaining(metrics)]);
});

test("a link that the user chose as TensorBoard's folder is followed, and no link in that folder is written through", async () => {
  const runsDir = await temporaryFolder();
  const { directory } = await runTracked({ runsDir, name: "tiny", track: [] });
  const chosen = path.join(runsDir, "chosen");
  await mkdir(path.join(runsDir, "real"));
  await symlink("real", chosen);
  for (const name of ["prelort.partial", "prelort.json.partial"])
    await symlink(path.join(runsDir, "other"), path.join(runsDir, "real", name));
  expect(await trackCli(directory, "--with", JSON.stringify({ name: "tensorboard", folder: chosen }))).toMatchObject({ code: 0 });
  await expectOnce(await readBack("tensorboard", chosen), directory, Math.fround);
  expect(await readdir(runsDir)).not.toContain("other");
});
