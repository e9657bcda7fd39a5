import { setMaxListeners } from "node:events";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { isDeepStrictEqual } from "node:util";
import PQueue from "p-queue";
import { buildRun, describeConfig } from "../config/build.ts";
import { assignments, type Comparison, type ComparisonMethod, slug } from "../config/comparison.ts";
import { loadConfig } from "../config/load.ts";
import type { RunConfig } from "../config/schema.ts";
import { PrelortError } from "../errors.ts";
import { type RecordedRun, readRun } from "../report/read-run.ts";
import { federate } from "../server/federate.ts";
import { type Budget, type Outcome, outcomesOf } from "./outcome.ts";

export interface CompareOptions {
  /** Overrides of the setting, as `--set` takes them, for every method. */
  readonly set?: readonly string[] | undefined;
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

/** What a comparison came to; `compare.json` is this. */
export interface ComparisonResult {
  readonly name: string;
  readonly reference: string;
  readonly seeds: readonly number[];
  readonly tiers: readonly number[];
  /** By family; null where the setting's own is taken. */
  readonly learningRates: Readonly<Record<string, LearningRate>> | null;
  readonly outcomes: readonly Outcome[];
  /** Runs that failed, and why. */
  readonly missing: readonly string[];
}

export interface LearningRate {
  readonly chosen: number;
  readonly method: string;
  /** Mean loss over the tiers of each value tried; null where it was not finite. */
  readonly tried: readonly { readonly lr: number; readonly loss: number | null }[];
}

/**
 * Runs every method with every seed, at equal rounds and, where its steps cost more than plain ones, at equal
 * compute too. Every run is one of `prelort run`, in a folder below the comparison's; those that are there already,
 * of the same config, are kept: a comparison that was stopped goes on where it was.
 */
export async function compare(comparison: Comparison, options: CompareOptions = {}): Promise<ComparisonResult> {
  // Everything that is wrong with any of them comes before anything starts.
  for (const method of comparison.methods) await configOf(comparison, method, options, []);
  // Every run listens to it.
  if (options.signal) setMaxListeners(0, options.signal);
  const runs = createRuns(options);
  const learningRates = await tune(comparison, options, runs);
  const missing: string[] = [];
  const outcomes = await Promise.all(
    comparison.seeds.flatMap((seed) =>
      comparison.methods
        .filter((method) => method.seeds?.includes(seed) ?? true)
        .map(async (method) => {
          const lr = learningRates?.[method.family]?.chosen;
          const both = [`seed=${seed}`, ...(lr === undefined ? [] : [`fit.lr=${lr}`])];
          const run = async (budget: Budget, more: readonly string[]) => {
            const runName = `${slug(method.name)}.seed-${seed}${budget === "compute" ? ".equal-compute" : ""}`;
            const config = await configOf(comparison, method, options, [...both, ...more, `name=${runName}`]);
            try {
              const recorded = await runs.get(config);
              const { localSteps, lr: used } = config.fit;
              return { config, recorded, outcomes: outcomesOf({ method: method.name, seed, budget, lr: used, localSteps }, recorded) };
            } catch (error) {
              // One method that fails, or diverges, does not cost the others their results.
              if (!(error instanceof PrelortError) || error.kind === "interrupted") throw error;
              missing.push(`${runName}: ${error.message}`);
              return undefined;
            }
          };
          const first = await run("rounds", []);
          const wantsCompute = comparison.budgets.includes("compute");
          const steps = first && wantsCompute ? stepsAtEqualCompute(first.config, first.recorded) : undefined;
          const second = steps === undefined ? undefined : await run("compute", [`fit.local_steps=${steps}`]);
          return [...(first?.outcomes ?? []), ...(second?.outcomes ?? [])];
        }),
    ),
  );
  const all = outcomes.flat();
  const tiers = all[0]?.byTier.map(({ r }) => r) ?? [];
  const { name, reference, seeds } = comparison;
  return { name, reference, seeds, tiers, learningRates, outcomes: all, missing: missing.toSorted() };
}

/** Local steps that cost what plain training's do; undefined where a step costs no more. */
function stepsAtEqualCompute({ fit: { localSteps } }: RunConfig, { rounds }: RecordedRun): number | undefined {
  const fits = rounds.reduce((sum, { round, reported }) => sum + (round > 0 ? reported.length : 0), 0);
  const passes = rounds.reduce((sum, round) => sum + round.passes, 0);
  const passesPerStep = passes / (fits * localSteps);
  return passesPerStep > 1 ? Math.max(1, Math.round(localSteps / passesPerStep)) : undefined;
}

async function configOf(
  { setting, name, runsDir }: Comparison,
  method: ComparisonMethod,
  { set = [] }: CompareOptions,
  more: readonly string[],
): Promise<RunConfig> {
  const place = `runs_dir=${JSON.stringify(path.join(runsDir, name))}`;
  return buildRun(await loadConfig(setting, { set: [...set, ...assignments(method), place, ...more] }));
}

interface Runs {
  /** The run of this config: that which is there, or one made now. */
  get(config: RunConfig): Promise<RecordedRun>;
}

function createRuns({ jobs = 1, signal, onRun }: CompareOptions): Runs {
  const queue = new PQueue({ concurrency: jobs });
  let [planned, finished] = [0, 0];
  return {
    async get(config) {
      const name = config.name ?? "";
      planned++;
      const tell = (state: Progress["state"]) => onRun?.({ name, state, finished, planned });
      const directory = path.resolve(config.runsDir, name);
      const kept = await findFinished(directory, config);
      if (kept) {
        finished++;
        tell("kept");
        return kept;
      }
      const conduct = async () => {
        tell("started");
        await federate({ ...config, overwrite: true, signal }).result;
        finished++;
        tell("finished");
        return readRun(directory);
      };
      return queue.add(conduct, signal ? { signal } : {});
    },
  };
}

/** The run in this folder, if it has ended and its config is this one. */
async function findFinished(directory: string, config: RunConfig): Promise<RecordedRun | undefined> {
  const journal = await readFile(path.join(directory, "journal.jsonl"), "utf8").catch(() => "");
  if (!journal.trimEnd().endsWith(`{"type":"end"}`)) return undefined;
  const recorded = await readRun(directory).catch(() => undefined);
  const asked: unknown = JSON.parse(JSON.stringify(describeConfig(config)));
  return isDeepStrictEqual(recorded?.record.config, asked) ? recorded : undefined;
}

/** Each family's learning rate, by the first of its methods. */
async function tune(comparison: Comparison, options: CompareOptions, runs: Runs): Promise<ComparisonResult["learningRates"]> {
  const { learningRates, methods } = comparison;
  if (!learningRates) return null;
  const { values, rounds, seed } = learningRates;
  const families = [...new Set(methods.map(({ family }) => family))];
  const entries = families.map(async (family) => {
    const method = methods.find((candidate) => candidate.family === family) as ComparisonMethod;
    const tried = await Promise.all(
      values.map(async (lr) => {
        const more = [`seed=${seed}`, `rounds=${rounds}`, `fit.lr=${lr}`, `name=lr.${slug(family)}.${lr}`];
        const { rounds: done } = await runs.get(await configOf(comparison, method, options, more));
        const losses = done.at(-1)?.byTier.map(({ loss }) => loss) ?? [];
        const loss = losses.includes(null) ? null : losses.reduce<number>((sum, value) => sum + (value ?? 0), 0) / losses.length;
        return { lr, loss };
      }),
    );
    const best = tried.reduce((one, other) => ((other.loss ?? Infinity) < (one.loss ?? Infinity) ? other : one));
    return [family, { chosen: best.lr, method: method.name, tried }] as const;
  });
  return Object.fromEntries(await Promise.all(entries));
}
