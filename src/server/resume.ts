import path from "node:path";
import { decodeGlobal } from "../adapter/global-file.ts";
import type { RunConfig } from "../config/schema.ts";
import { judge } from "../records/best-round.ts";
import type { NewEvent } from "./events.ts";
import type { Commit } from "../records/journal.ts";
import { baseFiles } from "../records/model-source.ts";
import { present } from "../strategy/validate-policy-output.ts";
import { saveAdapters } from "./save-adapters.ts";
import { createResult, type RunResult } from "./result.ts";
import { GLOBAL, roundFile } from "../records/round-files.ts";
import { type CommittedRound, type ResumedFrom, withRanks } from "./run-context.ts";
import type { ReopenedDirectory, RunDirectory } from "../records/run-directory.ts";
import type { Session } from "./session.ts";
import { requireReady, runRecord } from "../records/run-record.ts";

/** The event that a run starts with, new or resumed. */
export function runStart(
  config: Pick<RunConfig, "rounds" | "evaluate" | "stopWhen">,
  { path: directory }: RunDirectory,
  tiers: readonly number[],
  resumed: ResumedFrom | undefined,
): NewEvent {
  const start = { type: "run-start", name: path.basename(directory), directory, rounds: config.rounds, tiers } as const;
  if (!resumed) return start;
  const { commits, metrics, differences, remarks } = resumed;
  const stopped = resumed.stopped ?? judge(config, metrics).stopped;
  return { ...start, resumed: { after: commits.length - 1, ...(stopped && { stopped }), metrics, differences, remarks } };
}

/** A round committed before the run was resumed, with the clients' ranks at that time; undefined if there is none. */
export async function restoreRound(
  resumed: ResumedFrom,
  { clients, columns }: Pick<Session, "clients" | "columns">,
  number: number,
): Promise<CommittedRound | undefined> {
  const commit = resumed.commits[number];
  if (!commit) return undefined;
  const { round, sha256, trained, setAside } = commit;
  const { adapter: global } = decodeGlobal(await resumed.readGlobal(round), resumed.file(roundFile(round, GLOBAL)));
  const earlier = resumed.commits.slice(0, number + 1);
  const ranks = new Map(earlier.flatMap((entry) => entry.clients.map(({ id, r }) => [id, r])));
  return { round, sha256, trained, setAside, global, state: await resumed.readState(round), clients: withRanks(clients, columns, ranks) };
}

/** The result of a run that is resumed after its end, without any worker. Adapters that were removed are written again. */
export async function showEnded(
  { config, emit }: { readonly config: RunConfig; emit(event: NewEvent): void },
  directory: ReopenedDirectory,
): Promise<RunResult> {
  const { peft, labels, model } = requireReady(directory.path, directory.record, endedRecord);
  const { round, sha256 } = directory.commits.at(-1) as Commit;
  const { layout, adapter: global } = decodeGlobal(await directory.readGlobal(round), directory.file(roundFile(round, GLOBAL)));
  const presented = present(config.strategy.aggregation, global, layout);
  emit(runStart(config, directory, layout.tiers, { ...directory, differences: [] }));
  const { metrics, stopped } = directory;
  const { best } = judge(config, metrics);
  await saveAdapters(
    { config, peft, layout, directory },
    { last: { round, sha256, presented }, best: best && directory.commits[best.round], isKept: true },
  );
  const trained = { round, sha256, peft, base: baseFiles(model), labels, layout, global, presented };
  return createResult(config, directory, trained, { metrics, best, stopped });
}

const endedRecord = runRecord.pick({ labels: true, peft: true, model: true });
