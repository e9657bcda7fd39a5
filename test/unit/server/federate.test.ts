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

/** What a reader sees, and the message that it ends with. */
async function follow(events: AsyncIterable<RunEvent>): Promise<{ readonly seen: RunEvent[]; readonly error: string }> {
  const seen: RunEvent[] = [];
  try {
    for await (const event of events) seen.push(event);
    return { seen, error: "" };
  } catch (error) {
    return { seen, error: (error as Error).message };
  }
}

test("run-failed is the last event of a run that fails, for every reader, and the iteration then rejects with the error", async () => {
  const run = federate(options());
  for await (const event of run) if (event.type === "phase-start") break;
  const early = await follow(run);
  expect(early.error).toContain("cannot be started");
  expect(early.seen.map(({ type }) => type)).toEqual(["phase-start", "run-failed"]);
  expect(early.seen.at(-1)).toEqual({ type: "run-failed", kind: "worker", error: early.error });
  expect(await follow(run)).toEqual(early);
  await expect(run.result).rejects.toThrow("cannot be started");
});

test("run-failed says how a run that was interrupted ended", async () => {
  const { seen } = await follow(federate(options({ signal: AbortSignal.abort() })));
  expect(seen).toEqual([{ type: "run-failed", kind: "interrupted", error: "the run was interrupted" }]);
});

test("runs without a name that start together in one process each get a folder of their own", async () => {
  const ends = await Promise.all([1, 2, 3].map(() => follow(federate(options()))));
  for (const { error } of ends) expect(error).toContain("cannot be started");
  expect(readdirSync(runsDir).toSorted()).toEqual(["run-1", "run-2", "run-3"]);
});

test("a second run of one name in this process is refused while the first is under way", async () => {
  const held = await claimNewFolder({ runsDir, name: "a" });
  const { error } = await follow(federate(options({ name: "a", overwrite: true })));
  expect(error).toContain("has a run under way in this process");
  held.release();
});

test("a run that is resumed in a copy of a folder under way says what it is a copy of", async () => {
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
