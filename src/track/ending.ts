import path from "node:path";
import { asksForBest, type BestRound, type EarlyStop, judgeRecorded } from "../records/best-round.ts";
import { readMetrics } from "../records/metrics.ts";
import { readRecord } from "../records/run-record.ts";

/** The state that a run ended in, as trackers have it; `running` leaves it as it is there. */
export type TrackedState = "finished" | "failed" | "killed" | "running";

/** What trackers are told when a run ends. */
export interface Ending {
  readonly state: TrackedState;
  readonly best?: BestRound;
  readonly stopped?: EarlyStop;
}

/** Judged by the rounds that are recorded, so also for a run that was interrupted, or is delivered later. */
export async function readEnding(directory: string, state: TrackedState): Promise<Ending> {
  const { config } = await readRecord(directory);
  if (!asksForBest(config)) return { state };
  const { lines } = await readMetrics(path.join(directory, "metrics.jsonl"));
  const rounds = lines.flatMap(({ metrics }) => metrics ?? []).toSorted((a, b) => a.round - b.round);
  const { best, stopped } = judgeRecorded(config, rounds);
  return { state, ...(best && { best }), ...(stopped && { stopped }) };
}
