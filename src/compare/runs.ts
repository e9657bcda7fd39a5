import { setMaxListeners } from "node:events";
import path from "node:path";
import { isDeepStrictEqual } from "node:util";
import PQueue from "p-queue";
import { isThere } from "../base/read-file.ts";
import { describeConfig } from "../config/build.ts";
import { comparableConfig } from "../config/recorded-config.ts";
import type { RunConfig } from "../config/schema.ts";
import { ConfigError, PrelortError } from "../errors.ts";
import { readJournal } from "../records/journal.ts";
import { readRun, type RecordedRun } from "../records/read-run.ts";
import { readRecord } from "../records/run-record.ts";
import { federate } from "../server/federate.ts";

/* The runs of a comparison: each is made once, and one that an earlier comparison finished is kept. */

export interface RunsOptions {
  /** Make anew what an earlier comparison of the name finished under another config; otherwise that is refused. */
  readonly overwrite?: boolean | undefined;
  /** Runs under way at a time. */
  readonly jobs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  onRun?(progress: Progress): void;
}

export interface Progress {
  readonly name: string;
  readonly state: "kept" | "started" | "finished";
  readonly finished: number;
  /** Known so far: runs at equal compute are planned once the cost of a method's steps is known. */
  readonly planned: number;
}

export interface Runs {
  /** The run of this config: that which is there, or one made now. */
  get(config: RunConfig): Promise<RecordedRun>;
}

/** Aborts `refusal` where a run would replace what another comparison finished: none of the others goes on for nothing. */
export function createRuns({ jobs = 1, overwrite = false, signal, onRun }: RunsOptions, refusal: AbortController): Runs {
  const fate = signal ? AbortSignal.any([signal, refusal.signal]) : refusal.signal;
  // Every run listens to it.
  setMaxListeners(0, fate);
  const queue = new PQueue({ concurrency: jobs });
  let [planned, finished] = [0, 0];
  return {
    async get(config) {
      const name = config.name ?? "";
      planned++;
      const tell = (state: Progress["state"]) => onRun?.({ name, state, finished, planned });
      const directory = path.resolve(config.runsDir, name);
      const { commits, hasEnded } = await readJournal(path.join(directory, "journal.jsonl"));
      const isSame = isDeepStrictEqual(await recordedConfig(directory), comparableConfig(plain(config)));
      // Its journal may be gone.
      const isUsed = commits.length > 0 || isThere(path.join(directory, "rounds"));
      if (isUsed && !isSame && !overwrite) {
        const state = hasEnded ? "a finished run" : "a run";
        const message = `${directory} holds ${state} of another config; give the comparison another name, or make it anew with --overwrite`;
        const error = new ConfigError([{ path: "name", message }]);
        refusal.abort(error);
        throw error;
      }
      const kept = hasEnded && isSame ? await readRun(directory).catch(unlessDamaged) : undefined;
      if (kept) {
        finished++;
        tell("kept");
        return kept;
      }
      const conduct = async () => {
        tell("started");
        await federate({ ...config, ...(isSame ? { resume: true } : { overwrite }), signal: fate }).result;
        finished++;
        tell("finished");
        return readRun(directory);
      };
      // An aborted signal has every run that is under way, or comes to its turn, reject with an InterruptedError.
      return queue.add(conduct);
    },
  };
}

/** As a record has it. */
function plain(config: RunConfig): unknown {
  return JSON.parse(JSON.stringify(describeConfig(config)));
}

/** What is damaged is made again by a resume, or refused by it. */
function unlessDamaged(error: unknown): undefined {
  if (!(error instanceof PrelortError) || error.kind !== "run") throw error;
}

/** Of a run that has begun; undefined where none has. */
async function recordedConfig(directory: string): Promise<unknown> {
  return isThere(path.join(directory, "run.json")) ? comparableConfig((await readRecord(directory))["config"]) : undefined;
}
