import { createDownlink } from "../adapter/travel.ts";
import type { RunConfig } from "../config/schema.ts";
import type { RankedClient } from "../strategy/strategy.ts";
import { deriveSeed } from "../tensor/rng.ts";
import type { TaskRequest } from "../workers/task.ts";
import { makespan } from "./schedule.ts";
import type { Session } from "./session.ts";
import { toFitSpec, WIRE_DTYPES } from "./wire-specs.ts";

/** What one worker takes, alone on its machine. */
export interface Measurement {
  /** Per tier that clients train at, lowest first. `fitSeconds` is from a fit's dispatch to its update, at the config's local steps. */
  readonly tiers: readonly { readonly r: number; readonly stepSeconds: number; readonly fitSeconds: number }[];
  /** Of one held-out example, at every tier. */
  readonly exampleSeconds: number;
}

/** What a run would take, its start apart, if its workers did not slow each other down. */
export interface Prediction {
  readonly workers: number;
  /** Mean over the rounds. */
  readonly fitSecondsPerRound: number;
  /** Of one evaluation of the global adapter, and of each client on its own held-out examples. */
  readonly evaluateSeconds: number;
  readonly runSeconds: number;
}

/** Local steps between the two fits that are compared. */
const STEPS = 5;

/** Does real fits of the largest client of each tier, whose batches are of the config's size, and one real evaluation task. */
export async function measure(config: RunConfig, { pool, clients, tiers, layout, prepared, ...session }: Session): Promise<Measurement> {
  const { distribute } = config.strategy.aggregation;
  const initial = session.initial();
  const downlink = createDownlink(WIRE_DTYPES[config.wire.downlink]);
  const dtype = WIRE_DTYPES[config.wire.update];
  const timed = async (name: string, request: TaskRequest<"fit" | "evaluate">, r: number) => {
    const start = performance.now();
    const handed = distribute(initial, layout, r);
    const payload = request.type === "fit" ? downlink(handed) : handed;
    await pool.run({ id: `measure/${name}`, request, payload, expect: "any", dtype });
    return (performance.now() - start) / 1000;
  };
  const fit = ({ id, r }: RankedClient, steps: number, name: string) => {
    const seed = deriveSeed(config.seed, "measure", id);
    const spec = { ...toFitSpec(config, 1), local_steps: steps };
    const asked = { round: 1, client_id: id, r, scale: layout.scale, seed, fit: spec, update_dtype: dtype };
    return timed(`${id}/${name}`, { type: "fit", ...asked }, r);
  };

  const measured: Measurement["tiers"][number][] = [];
  for (const r of tiers) {
    const [client] = clients.filter((candidate) => candidate.r === r).toSorted((one, other) => other.size - one.size);
    if (!client) continue;
    await fit(client, 1, "warm-up");
    const short = await fit(client, 1, "short");
    const long = await fit(client, 1 + STEPS, "long");
    const stepSeconds = Math.max(0, long - short) / STEPS;
    measured.push({ r, stepSeconds, fitSeconds: short + (config.fit.localSteps - 1) * stepSeconds });
  }
  return { tiers: measured, exampleSeconds: await timeExample(config, prepared.n_eval, tiers, layout.scale, timed) };
}

async function timeExample(
  { evaluate: { shardSize, batchSize } }: RunConfig,
  evalExamples: number,
  tiers: readonly number[],
  scale: number,
  timed: (name: string, request: TaskRequest<"evaluate">, r: number) => Promise<number>,
): Promise<number> {
  const count = Math.min(shardSize, evalExamples);
  if (count === 0) return 0;
  const range = { start: 0, count, batch_size: batchSize, max_new_tokens: 0 };
  const request = { type: "evaluate", round: 0, examples: "global", client_id: null, ranks: [...tiers], scale, ...range } as const;
  const largest = tiers.at(-1) ?? 1;
  await timed("evaluate/warm-up", { ...request, ranks: [...tiers] }, largest);
  return (await timed("evaluate", { ...request, ranks: [...tiers] }, largest)) / count;
}

/** Plays the schedule of every round: fits by rank, then the evaluation's shards, each to the worker that is free first. */
export function predict(
  { rounds, evaluate }: Pick<RunConfig, "rounds" | "evaluate">,
  { tiers, exampleSeconds }: Measurement,
  { selections, evalExamples, ownExamples, workers }: PredictionInput,
): Prediction {
  const secondsOf = new Map(tiers.map(({ r, fitSeconds }) => [r, fitSeconds]));
  const fits = selections.map((selected) => {
    const largestFirst = selected.toSorted((one, other) => other.r - one.r);
    return makespan(
      largestFirst.map(({ r }) => secondsOf.get(r) ?? 0),
      workers,
    );
  });
  const { shardSize, every } = evaluate;
  const shards = Array.from({ length: Math.ceil(evalExamples / shardSize) }, (_, shard) =>
    Math.min(shardSize, evalExamples - shard * shardSize),
  );
  // A client's own examples are evaluated at its rank alone.
  const own = ownExamples.filter((count) => count > 0).map((count) => count / Math.max(1, tiers.length));
  const evaluateSeconds = makespan(
    [...shards, ...own].map((count) => count * exampleSeconds),
    workers,
  );
  const evaluations = 1 + Math.ceil(rounds / every);
  const fitSeconds = fits.reduce((sum, seconds) => sum + seconds, 0);
  return {
    workers,
    fitSecondsPerRound: fitSeconds / Math.max(1, rounds),
    evaluateSeconds,
    runSeconds: fitSeconds + evaluations * evaluateSeconds,
  };
}

export interface PredictionInput {
  /** Of every round. */
  readonly selections: readonly (readonly RankedClient[])[];
  readonly evalExamples: number;
  /** Held out of each client's own. */
  readonly ownExamples: readonly number[];
  readonly workers: number;
}
