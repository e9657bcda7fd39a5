import path from "node:path";
import type { Adapter } from "../adapter/adapter.ts";
import { prefix } from "../adapter/adapter.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import { readTrained, type TrainedOptions } from "../artifacts/load-trained.ts";
import { argumentError } from "../errors.ts";
import { type BestRound, type EarlyStop, judgeRecorded } from "../records/best-round.ts";
import { followEvents, type ReadOptions } from "../records/event-log.ts";
import type { RoundMetrics } from "../records/metrics.ts";
import { readRounds } from "../records/read-run.ts";
import { isReady, readRecord, requireReady, requireRunIn, runRecord } from "../records/run-record.ts";
import { type FoundState, readRunState } from "../records/run-state.ts";
import { EVENT_VERSION, type RunEvent } from "./events.ts";

/** A run on disk, as it was when it was loaded: finished, under way in any process, or killed. */
export interface LoadedRun extends FoundState {
  /** Absolute path of its folder. */
  readonly directory: string;
  readonly name: string;
  readonly method: { readonly name: string; readonly note: string };
  /** The resolved config, with the keys of YAML. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Labels of a classification, in the order of the model's outputs; empty for other tasks. */
  readonly labels: readonly string[];
  /** Undefined until data and model were ready. */
  readonly layout: AdapterLayout | undefined;
  /** One entry for each evaluated or trained round, in order; round 0 is before training. */
  readonly metrics: readonly RoundMetrics[];
  /** With `evaluate.best`: the best of the evaluated rounds so far. */
  readonly best: BestRound | undefined;
  /** With `stop_when`: why it ends before its last round. */
  readonly stopped: EarlyStop | undefined;
  /** An adapter of the base model, by default that of the last committed round, at rank R. */
  adapter(options?: LoadAdapterOptions): Promise<Adapter>;
  /**
   * Its recorded events, then, while some process holds the run, each as it is recorded. The iteration ends with the run, also a
   * failed one. `data-ready` lacks the clients, `run-start` the metrics of earlier rounds. Runs of earlier versions have none.
   */
  events(options?: ReadOptions): AsyncIterable<RunEvent>;
}

export interface LoadAdapterOptions extends TrainedOptions {
  /** Rank of the adapter: its first r components. R by default. */
  readonly r?: number | undefined;
}

/**
 * Reads a run's folder, without any worker or Python. Throws a ConfigError if there is no run, and a PrelortError that names the file
 * and line that is damaged.
 */
export async function loadRun(folder: string): Promise<LoadedRun> {
  const directory = path.resolve(folder);
  await requireRunIn(directory);
  // Its state first: what it has written by then is read.
  const found = await readRunState(directory);
  const [record, metrics] = await Promise.all([readRecord(directory), readRounds(directory)]);
  const begun = requireReady(directory, record, begunRecord);
  const ready = isReady(record) ? requireReady(directory, record, readyRecord) : undefined;
  const { best, stopped } = judgeRecorded(record["config"], metrics);
  return {
    ...found,
    ...begun,
    directory,
    labels: ready?.labels ?? [],
    layout: ready?.layout,
    metrics,
    best,
    stopped,
    async adapter({ r, ...options } = {}) {
      const { layout, presented } = await readTrained(directory, options);
      if (r === undefined) return presented;
      if (Number.isInteger(r) && r >= 1 && r <= layout.r) return prefix(presented, layout, r);
      throw argumentError("r", `must be a whole number from 1 to ${layout.r}, got ${r}`);
    },
    events: (options) => typed(directory, options),
  };
}

const begunRecord = runRecord.pick({ name: true, method: true, config: true });
const readyRecord = runRecord.pick({ labels: true, layout: true });

/** Events of another version than ours may have other fields. */
async function* typed(directory: string, options: ReadOptions | undefined): AsyncGenerator<RunEvent, void> {
  for await (const event of followEvents(directory, options)) {
    if (event.version === EVENT_VERSION) yield event as unknown as RunEvent;
  }
}
