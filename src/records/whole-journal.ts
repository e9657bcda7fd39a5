import path from "node:path";
import { RunFailedError } from "../errors.ts";
import { type Journal, readJournal } from "./journal.ts";
import type { MetricsLine } from "./metrics.ts";
import { roundFolders } from "./round-files.ts";

/**
 * Reads a run's journal, and refuses one that lacks lines. A round's folder is written before the journal commits it, and its
 * metrics after, so files or metrics of later rounds mean that commits are missing. `lines` of metrics.jsonl must be read
 * first, since the run may be under way.
 */
export async function readWholeJournal(root: string, lines: readonly MetricsLine[]): Promise<Journal> {
  const latestOf = (rounds: readonly number[]) => rounds.reduce((a, b) => Math.max(a, b), -1);
  const [folder, metrics] = [latestOf(await roundFolders(root)), latestOf(lines.map((line) => line.metrics?.round ?? -1))];
  const journal = await readJournal(path.join(root, "journal.jsonl"));
  const { highest } = journal;
  if (folder <= highest + 1 && metrics <= highest) return journal;
  const known = highest < 0 ? "commits no round" : `commits rounds up to ${highest}`;
  throw new RunFailedError(
    `${path.join(root, "journal.jsonl")} ${known}, but ${root} holds round ${Math.max(folder, metrics)}: ` +
      "lines are missing from the journal; restore it from a copy. Nothing was changed",
  );
}
