import { cpSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type FederateOptions, federate, type RunEvent, WorkerError, type WorkerLauncher } from "../../../src/index.ts";
import { claimNewFolder } from "../../../src/records/claim-run-folder.ts";
import { tinyRun, type TinyRunOptions } from "../../../src/testing/index.ts";

let runsDir: string;
beforeEach(() => {
  runsDir = mkdtempSync(path.join(tmpdir(), "prelort-federate-"));
});
afterEach(() => rmSync(runsDir, { recursive: true }));

/** Options of a run whose workers cannot be started. */
function options(more: Omit<TinyRunOptions, "runsDir"> = {}): FederateOptions {
  const launcher: WorkerLauncher = {
    launch: ({ workerId }) => {
      throw new WorkerError("cannot be started", { workerId });
    },
  };
  return tinyRun({ runsDir, launcher, ...more });
}

/** The events that a reader sees, and the message of the error that it ends with. */
async function follow(events: AsyncIterable<RunEvent>): Promise<{ readonly seen: RunEvent[]; readonly error: string }> {
  const seen: RunEvent[] = [];
  try {
    for await (const event of events) seen.push(event);
    return { seen, error: "" };
  } catch (error) {
    return { seen, error: (error as Error).message };
  }
}

test("run-failed is the last event of a failed run for every reader, and the run's own iteration then rejects with the error", async () => {
  const run = federate(options());
  for await (const event of run) if (event.type === "phase-start") break;
  const early = await follow(run);
  expect(early.error).toContain("cannot be started");
  expect(early.seen.map(({ type }) => type)).toEqual(["phase-start", "run-failed"]);
  expect(early.seen.at(-1)).toMatchObject({ type: "run-failed", kind: "worker", error: early.error });
  expect(await follow(run)).toEqual(early);
  expect(await follow(run.events())).toEqual({ seen: early.seen, error: "" });
  await expect(run.result).rejects.toThrow("cannot be started");
});

test("the run-failed event of an interrupted run has the kind interrupted", async () => {
  const { seen } = await follow(federate(options({ signal: AbortSignal.abort() })));
  expect(seen).toMatchObject([{ number: expect.any(Number), type: "run-failed", kind: "interrupted", error: expect.any(String) }]);
});

test("unnamed runs that start together in one process get a folder each", async () => {
  const ends = await Promise.all([1, 2, 3].map(() => follow(federate(options()))));
  for (const { error } of ends) expect(error).toContain("cannot be started");
  expect(readdirSync(runsDir).toSorted()).toEqual(["run-1", "run-2", "run-3"]);
});

test("a second run of the same name in this process is refused while the first is under way", async () => {
  const held = await claimNewFolder({ runsDir, name: "a" });
  const { seen, error } = await follow(federate(options({ name: "a", overwrite: true })));
  expect(seen).toMatchObject([{ number: expect.any(Number), type: "run-failed", kind: "config", error }]);
  expect(error).toMatch(/\bin this process\b/);
  held.release();
});

test("a run that is resumed in a copy of an active run's folder reports the original folder and its process", async () => {
  const held = await claimNewFolder({ runsDir, name: "a" });
  writeFileSync(path.join(held.root, "run.json"), "{}");
  cpSync(held.root, path.join(runsDir, "b"), { recursive: true });
  const { seen } = await follow(federate(options({ name: "b", resume: true })));
  expect(seen[0]).toMatchObject({
    type: "folder-copied",
    directory: path.join(runsDir, "b"),
    copyOf: { directory: held.root, pid: process.pid },
  });
  held.release();
});
