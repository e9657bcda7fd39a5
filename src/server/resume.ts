import path from "node:path";
import { decodeGlobal } from "../adapter/global-file.ts";
import type { RunConfig } from "../config/schema.ts";
import type { RankedClient } from "../strategy/strategy.ts";
import { hasAdapter, writeAdapterFolder } from "../artifacts/peft-folder.ts";
import type { RunEvent, RunStartEvent } from "./events.ts";
import type { Commit } from "../records/journal.ts";
import { baseFiles } from "../records/model-source.ts";
import { present } from "../strategy/validate-policy-output.ts";
import { createResult, type RunResult } from "./result.ts";
import { GLOBAL, roundFile } from "../records/round-files.ts";
import { type CommittedRound, type Past, withRanks } from "./run-context.ts";
import type { ReopenedDirectory, RunDirectory } from "../records/run-directory.ts";
import { requireReady, runRecord } from "../records/run-record.ts";

/** The event that a run starts with, or goes on with. */
export function runStart(
  { rounds }: Pick<RunConfig, "rounds">,
  { path: directory }: RunDirectory,
  tiers: readonly number[],
  past: Past | undefined,
): RunStartEvent {
  const start = { type: "run-start", name: path.basename(directory), directory, rounds, tiers } as const;
  if (!past) return start;
  const { commits, metrics, differences, remarks } = past;
  return { ...start, resumed: { after: commits.length - 1, metrics, differences, remarks } };
}

/** A round that an earlier life of the run committed, with the clients' ranks as they were then; undefined if there is none. */
export async function restoreRound(past: Past, clients: readonly RankedClient[], number: number): Promise<CommittedRound | undefined> {
  const commit = past.commits[number];
  if (!commit) return undefined;
  const { round, sha256, trained, setAside } = commit;
  const { adapter: global } = decodeGlobal(await past.readGlobal(round), past.file(roundFile(round, GLOBAL)));
  const earlier = past.commits.slice(0, number + 1);
  const ranks = new Map(earlier.flatMap((entry) => entry.clients.map(({ id, r }) => [id, r])));
  return { round, sha256, trained, setAside, global, state: await past.readState(round), clients: withRanks(clients, ranks) };
}

/** The result of a run that is resumed after its end, without any worker. Adapters that somebody removed are written again. */
export async function showEnded(
  { config, emit }: { readonly config: RunConfig; emit(event: RunEvent): void },
  past: ReopenedDirectory,
): Promise<RunResult> {
  const { peft, labels, model } = requireReady(past.path, past.record, endedRecord);
  const { round, sha256 } = past.commits.at(-1) as Commit;
  const { layout, adapter: global } = decodeGlobal(await past.readGlobal(round), past.file(roundFile(round, GLOBAL)));
  const presented = present(config.strategy.aggregation, global, layout);
  emit(runStart(config, past, layout.tiers, { ...past, differences: [] }));
  for (const r of layout.tiers) {
    const folder = past.file("adapters", `r${r}`);
    if (hasAdapter(folder)) continue;
    await writeAdapterFolder(folder, { config, peft, layout, adapter: presented, r, dtype: "f32" });
  }
  return createResult(config, past, { round, sha256, peft, base: baseFiles(model), labels, layout, global, presented }, past.metrics);
}

const endedRecord = runRecord.pick({ labels: true, peft: true, model: true });
