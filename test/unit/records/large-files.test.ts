import { createHash } from "node:crypto";
import { openSync, closeSync, mkdtempSync, rmSync, statfsSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { readJournal } from "../../../src/records/journal.ts";
import { NOTHING_TRAINED } from "../../../src/records/metrics.ts";
import { createRunDirectory, reopenRunDirectory } from "../../../src/records/run-directory.ts";

const BYTES = 2.5 * 2 ** 30;

const { bavail, bsize } = statfsSync(tmpdir());
const hasRoom = bavail * bsize > 2 * BYTES;
if (!hasRoom) console.warn(`skipped: ${tmpdir()} has no room for files of 2.5 GiB`);

// One call reads, hashes or decodes less than 2 GiB.
describe.runIf(hasRoom)("a file of 2.5 GiB", { timeout: 1_800_000 }, () => {
  const temporary = () => {
    const folder = mkdtempSync(path.join(tmpdir(), "prelort-large-"));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    return folder;
  };

  test("can be a global adapter: it is read back with the committed bytes", async () => {
    const runsDir = temporary();
    const global = new Uint8Array(BYTES);
    global.set([1, 2, 3]);
    global.set([4, 5, 6], BYTES - 3);
    const first = await createRunDirectory({ runsDir, name: "a" });
    await first.writeRecord({ name: "a" });
    const sha256 = await first.commitRound({ round: 0, global: [global], state: {}, trained: NOTHING_TRAINED, clients: [], setAside: [] });
    await first.close();

    const again = await reopenRunDirectory(path.join(runsDir, "a"));
    onTestFinished(() => again.close());
    expect(again.commits.map((commit) => [commit.round, commit.sha256])).toEqual([[0, sha256]]);
    const read = await again.readGlobal(0);
    expect([read.length, ...read.subarray(0, 3), ...read.subarray(BYTES - 3)]).toEqual([BYTES, 1, 2, 3, 4, 5, 6]);
    const hash = createHash("sha256");
    for (let from = 0; from < BYTES; from += 2 ** 26) hash.update(read.subarray(from, from + 2 ** 26));
    expect(hash.digest("hex")).toBe(sha256);
  });

  test("can be a journal: it is read line by line", async () => {
    const file = path.join(temporary(), "journal.jsonl");
    const entry = (value: object) => Buffer.from(`${JSON.stringify(value)}\n`);
    const commit = { type: "commit", sha256: "a".repeat(64), state_sha256: null, clients: [], set_aside: [] };
    const trainedThen = { coverage: [], fit_loss: null, reported: [], failed: [], late: [], passes: 0, bytes_down: 0, bytes_up: 0 };
    const failure = entry({ type: "failure", task_id: "load", attempt: 1, worker_id: "w0", error: "x".repeat(2 ** 20), will_retry: true });
    const fd = openSync(file, "w");
    let size = writeSync(fd, entry({ ...commit, round: 0, trained: trainedThen }));
    while (size < BYTES) size += writeSync(fd, failure);
    size += writeSync(fd, entry({ ...commit, round: 1, trained: trainedThen }));
    size += writeSync(fd, entry({ type: "end" }));
    closeSync(fd);

    const { commits, hasEnded, end } = await readJournal(file);
    expect([commits.length, hasEnded, end]).toEqual([2, true, size]);
  });
});
