import { generatesText } from "../config/best-metric.ts";
import { availableParallelism } from "node:os";
import { createDownlink } from "../adapter/encoded-adapter.ts";
import type { RunConfig } from "../config/schema.ts";
import type { RankedClient } from "../strategy/strategy.ts";
import { deriveSeed } from "../base/rng.ts";
import { named, type TaskIdentity, type TaskRequest, type WorkerHello } from "../workers/task.ts";
import { sentForFit } from "../strategy/sent-for-fit.ts";
import { distribute } from "../strategy/validate-policy-output.ts";
import { makespan } from "./makespan.ts";
import type { Session } from "../server/session.ts";
import { fitRequest } from "../server/task-requests.ts";
import { stepsOf } from "../config/fit-spec.ts";
import { WIRE_DTYPES } from "../config/wire-specs.ts";

/** Time and memory of one worker, alone on its machine. */
export interface Measurement {
  /** Per tier that clients train at, lowest first. */
  readonly tiers: readonly MeasuredTier[];
  /** For one held-out example, at every tier. */
  readonly exampleSeconds: number;
  /** For generating its answer, at every tier; 0 if none are generated. */
  readonly generateSeconds: number;
}

export interface MeasuredTier {
  readonly r: number;
  readonly stepSeconds: number;
  /** From a fit's dispatch to its update, of the tier's largest client. */
  readonly fitSeconds: number;
  /** Of that fit. */
  readonly steps: number;
  /** Of the device in a fit, or of the worker process on a CPU; null if the worker cannot measure it. */
  readonly peakMemoryBytes: number | null;
}

/** Time of a run without its start, if its workers did not slow each other down. */
export interface Prediction {
  readonly workers: number;
  /** Mean over the rounds. */
  readonly fitSecondsPerRound: number;
  /** For one evaluation of the global adapter, including on each client's own held-out examples. */
  readonly evaluateSeconds: number;
  readonly runSeconds: number;
}

/** The number of workers that fit on a device like that of the measuring worker, to write into the config. */
export interface Slots {
  readonly slotsPerDevice: number;
  readonly device: { readonly type: string; readonly name: string; readonly memoryBytes: number };
  /** The largest over the tiers. */
  readonly peakMemoryBytes: number;
}

/** Additional local steps of the longer of the two fits that are compared. */
const STEPS = 5;
/** Share of a device's memory that workers may use at their peak. */
const USABLE = 0.9;
/** Memory of a CUDA context, besides what PyTorch reserves; measured values are between 250 and 600 MB. */
const CUDA_CONTEXT_BYTES = 600e6;

/** Runs real fits of the largest client of each tier, so that batches have the config's size, and one real evaluation task. */
export async function measure(config: RunConfig, { pool, clients, tiers, layout, prepared, ...session }: Session): Promise<Measurement> {
  const initial = await session.initial();
  const downlink = createDownlink(WIRE_DTYPES[config.wire.downlink]);
  const timed = async (of: Pick<TaskIdentity, "clientId" | "part">, request: TaskRequest<"fit" | "evaluate">, r: number) => {
    const start = performance.now();
    const { aggregation } = config.strategy;
    const payload =
      request.type === "fit"
        ? downlink(sentForFit(aggregation, config.fit.actingTail, initial, layout, r))
        : distribute(aggregation, initial, layout, r);
    const { message } = await pool.run({
      ...named({ kind: "measure", ...of }),
      request,
      payload,
      expect: "any",
      dtypes: [request.type === "fit" ? WIRE_DTYPES[config.wire.update] : "F64"],
    });
    return { seconds: (performance.now() - start) / 1000, memory: message.type === "fitted" ? message.peak_memory_bytes : null };
  };
  const fit = (client: RankedClient, steps: number, name: string) => {
    const request = fitRequest(config, layout, { round: 1, client, seed: deriveSeed(config.seed, "measure", client.id), steps });
    return timed({ clientId: client.id, part: name }, request, client.r);
  };

  const measured: MeasuredTier[] = [];
  for (const r of tiers) {
    let client: RankedClient | undefined;
    for (const candidate of clients) if (candidate.r === r && candidate.size > (client?.size ?? 0)) client = candidate;
    if (!client) continue;
    await fit(client, 1, "warm-up");
    const short = await fit(client, 1, "short");
    const long = await fit(client, 1 + STEPS, "long");
    const stepSeconds = Math.max(0, long.seconds - short.seconds) / STEPS;
    const steps = stepsOf(config.fit, client);
    const fitSeconds = short.seconds + (steps - 1) * stepSeconds;
    measured.push({ r, stepSeconds, fitSeconds, steps, peakMemoryBytes: long.memory });
  }

  const { shardSize, batchSize, maxNewTokens } = config.evaluate;
  const perExample = async (name: string, most: number, tokens: number) => {
    const count = Math.min(most, prepared.n_eval);
    const range = { start: 0, count, batch_size: batchSize, max_new_tokens: tokens, samples: 0 };
    const asked = { round: 0, examples: "global" as const, client_id: null, ranks: [...tiers], scale: layout.scale, ...range };
    return (await timed({ part: name }, { type: "evaluate", ...asked }, tiers.at(-1) ?? 1)).seconds / count;
  };
  await perExample("evaluate/warm-up", shardSize, 0);
  const exampleSeconds = await perExample("evaluate", shardSize, 0);
  const written = maxNewTokens > 0 ? await perExample("evaluate/generate", Math.min(batchSize, shardSize), maxNewTokens) : exampleSeconds;
  return { tiers: measured, exampleSeconds, generateSeconds: Math.max(0, written - exampleSeconds) };
}

/** Simulates the schedule of every round: fits by rank, then concurrent evaluation, each task on the worker that is free first. */
export function predict(
  config: { readonly fit: Parameters<typeof stepsOf>[0] } & Pick<RunConfig, "evaluate" | "rounds">,
  { tiers, exampleSeconds, generateSeconds }: Measurement,
  { selections, evalExamples, evaluatedTiers, ownExamples, workers }: PredictionInput,
): Prediction {
  const tierOf = new Map(tiers.map((tier) => [tier.r, tier]));
  const secondsOf = (client: RankedClient) => {
    const tier = tierOf.get(client.r);
    return tier ? tier.fitSeconds + (stepsOf(config.fit, client) - tier.steps) * tier.stepSeconds : 0;
  };
  const fits = selections.map((selected) => {
    const largestFirst = selected.toSorted((a, b) => b.r - a.r);
    return largestFirst.map(secondsOf);
  });
  const { shardSize, every } = config.evaluate;
  const shards = Array.from({ length: Math.ceil(evalExamples / shardSize) }, (_, shard) =>
    Math.min(shardSize, evalExamples - shard * shardSize),
  );
  // A client's own examples are evaluated only at its rank.
  const own = ownExamples.filter((count) => count > 0).map((count) => count / evaluatedTiers);
  const spread = (counts: readonly number[], seconds: number) =>
    makespan(
      counts.map((count) => count * seconds),
      workers,
    );
  const evaluated = [...shards, ...own];
  const evaluateSeconds = spread(evaluated, exampleSeconds);
  // The evaluation of the previous round uses workers that have no fit left, which may also generate answers.
  const trainSeconds = fits.map((seconds, index) => {
    const beside = index % every === 0 ? evaluated.map((count) => count * exampleSeconds) : [];
    const generated = index % every === 0 && generatesText(config, index) ? shards.map((count) => count * generateSeconds) : [];
    return makespan([...seconds, ...beside, ...generated], workers);
  });
  return {
    workers,
    fitSecondsPerRound: mean(fits.map((seconds) => makespan(seconds, workers))),
    evaluateSeconds,
    // Answers are always generated after the last round.
    runSeconds: sum(trainSeconds) + evaluateSeconds + spread(shards, generateSeconds),
  };
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
const mean = (values: readonly number[]) => sum(values) / Math.max(1, values.length);

/** Null if the worker cannot measure its memory or that of its device. */
export function proposeSlots(
  { tiers }: Measurement,
  device: Pick<WorkerHello["device"], "type" | "name" | "memoryBytes">,
  threads: number,
  cores: number = availableParallelism(),
): Slots | null {
  const peaks = tiers.flatMap(({ peakMemoryBytes }) => peakMemoryBytes ?? []);
  const { type, name, memoryBytes } = device;
  if (memoryBytes === null || peaks.length < tiers.length || peaks.length === 0) return null;
  const peakMemoryBytes = Math.max(...peaks) + (type === "cuda" ? CUDA_CONTEXT_BYTES : 0);
  const fitting = Math.floor((USABLE * memoryBytes) / peakMemoryBytes);
  const computing = type === "cpu" ? Math.floor(cores / threads) : fitting;
  return { slotsPerDevice: Math.max(1, Math.min(fitting, computing)), device: { type, name, memoryBytes }, peakMemoryBytes };
}

export interface PredictionInput {
  /** For every round. */
  readonly selections: readonly (readonly RankedClient[])[];
  readonly evalExamples: number;
  /** Tiers at which the global adapter is evaluated. */
  readonly evaluatedTiers: number;
  /** Number of examples that each client holds out. */
  readonly ownExamples: readonly number[];
  readonly workers: number;
}
