import { availableParallelism } from "node:os";
import { createDownlink } from "../adapter/encoded-adapter.ts";
import type { RunConfig } from "../config/schema.ts";
import type { RankedClient } from "../strategy/strategy.ts";
import { deriveSeed } from "../base/rng.ts";
import { named, type TaskIdentity, type TaskRequest, type WorkerHello } from "../workers/task.ts";
import { distribute } from "../strategy/validate-policy-output.ts";
import { makespan } from "./makespan.ts";
import type { Session } from "../server/session.ts";
import { fitRequest } from "../server/task-requests.ts";
import { WIRE_DTYPES } from "../config/wire-specs.ts";

/** What one worker takes, alone on its machine. */
export interface Measurement {
  /** Per tier that clients train at, lowest first. */
  readonly tiers: readonly MeasuredTier[];
  /** Of one held-out example, at every tier. */
  readonly exampleSeconds: number;
  /** Of generating its answer, at every tier; 0 where none are generated. */
  readonly generateSeconds: number;
}

export interface MeasuredTier {
  readonly r: number;
  readonly stepSeconds: number;
  /** From a fit's dispatch to its update, at the config's local steps. */
  readonly fitSeconds: number;
  /** Of the device in a fit, on a CPU of the worker process; null where the worker cannot tell. */
  readonly peakMemoryBytes: number | null;
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

/** How many workers a device like that of the measuring worker has room for: a number to be written into the config. */
export interface Slots {
  readonly slotsPerDevice: number;
  readonly device: { readonly type: string; readonly name: string; readonly memoryBytes: number };
  /** The largest over the tiers. */
  readonly peakMemoryBytes: number;
}

/** Local steps between the two fits that are compared. */
const STEPS = 5;
/** Of a device's memory, what workers may take at their peak. */
const USABLE = 0.9;
/** What a CUDA context takes beside what PyTorch reserves; measured values lie between 250 and 600 MB. */
const CUDA_CONTEXT_BYTES = 600e6;

/** Does real fits of the largest client of each tier, whose batches are of the config's size, and one real evaluation task. */
export async function measure(config: RunConfig, { pool, clients, tiers, layout, prepared, ...session }: Session): Promise<Measurement> {
  const initial = await session.initial();
  const downlink = createDownlink(WIRE_DTYPES[config.wire.downlink]);
  const dtype = WIRE_DTYPES[config.wire.update];
  const timed = async (of: Pick<TaskIdentity, "clientId" | "part">, request: TaskRequest<"fit" | "evaluate">, r: number) => {
    const start = performance.now();
    const received = distribute(config.strategy.aggregation, initial, layout, r);
    const payload = request.type === "fit" ? downlink(received) : received;
    const { message } = await pool.run({ ...named({ kind: "measure", ...of }), request, payload, expect: "any", dtype });
    return { seconds: (performance.now() - start) / 1000, memory: message.type === "fitted" ? message.peak_memory_bytes : null };
  };
  const fit = (client: RankedClient, steps: number, name: string) => {
    const request = fitRequest(config, layout, { round: 1, client, seed: deriveSeed(config.seed, "measure", client.id), steps });
    return timed({ clientId: client.id, part: name }, request, client.r);
  };

  const measured: MeasuredTier[] = [];
  for (const r of tiers) {
    const [client] = clients.filter((candidate) => candidate.r === r).toSorted((a, b) => b.size - a.size);
    if (!client) continue;
    await fit(client, 1, "warm-up");
    const short = await fit(client, 1, "short");
    const long = await fit(client, 1 + STEPS, "long");
    const stepSeconds = Math.max(0, long.seconds - short.seconds) / STEPS;
    const fitSeconds = short.seconds + (config.fit.localSteps - 1) * stepSeconds;
    measured.push({ r, stepSeconds, fitSeconds, peakMemoryBytes: long.memory });
  }

  const { shardSize, batchSize, maxNewTokens } = config.evaluate;
  const perExample = async (name: string, most: number, tokens: number) => {
    const count = Math.min(most, prepared.n_eval);
    const range = { start: 0, count, batch_size: batchSize, max_new_tokens: tokens };
    const asked = { round: 0, examples: "global" as const, client_id: null, ranks: [...tiers], scale: layout.scale, ...range };
    return (await timed({ part: name }, { type: "evaluate", ...asked }, tiers.at(-1) ?? 1)).seconds / count;
  };
  await perExample("evaluate/warm-up", shardSize, 0);
  const exampleSeconds = await perExample("evaluate", shardSize, 0);
  const written = maxNewTokens > 0 ? await perExample("evaluate/generate", Math.min(batchSize, shardSize), maxNewTokens) : exampleSeconds;
  return { tiers: measured, exampleSeconds, generateSeconds: Math.max(0, written - exampleSeconds) };
}

/** Plays the schedule of every round: fits by rank, then what is evaluated beside them, each to the worker that is free first. */
export function predict(
  { evaluate }: Pick<RunConfig, "evaluate">,
  { tiers, exampleSeconds, generateSeconds }: Measurement,
  { selections, evalExamples, evaluatedTiers, ownExamples, workers }: PredictionInput,
): Prediction {
  const secondsOf = new Map(tiers.map(({ r, fitSeconds }) => [r, fitSeconds]));
  const fits = selections.map((selected) => {
    const largestFirst = selected.toSorted((a, b) => b.r - a.r);
    return largestFirst.map(({ r }) => secondsOf.get(r) ?? 0);
  });
  const { shardSize, every } = evaluate;
  const shards = Array.from({ length: Math.ceil(evalExamples / shardSize) }, (_, shard) =>
    Math.min(shardSize, evalExamples - shard * shardSize),
  );
  // A client's own examples are evaluated at its rank alone.
  const own = ownExamples.filter((count) => count > 0).map((count) => count / evaluatedTiers);
  const spread = (counts: readonly number[], seconds: number) =>
    makespan(
      counts.map((count) => count * seconds),
      workers,
    );
  const evaluated = [...shards, ...own];
  const evaluateSeconds = spread(evaluated, exampleSeconds);
  // The evaluation of the round before takes the workers that fits leave free; before the first, answers are generated, too.
  const trainSeconds = fits.map((seconds, index) => {
    const beside = index % every === 0 ? evaluated.map((count) => count * exampleSeconds) : [];
    const generated = index === 0 ? shards.map((count) => count * generateSeconds) : [];
    return makespan([...seconds, ...beside, ...generated], workers);
  });
  return {
    workers,
    fitSecondsPerRound: mean(fits.map((seconds) => makespan(seconds, workers))),
    evaluateSeconds,
    // After the last round answers are generated again.
    runSeconds: sum(trainSeconds) + evaluateSeconds + spread(shards, generateSeconds),
  };
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
const mean = (values: readonly number[]) => sum(values) / Math.max(1, values.length);

/** Null where the worker cannot tell what it took, or what its device has. */
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
  /** Of every round. */
  readonly selections: readonly (readonly RankedClient[])[];
  readonly evalExamples: number;
  /** Tiers at which the global adapter is evaluated. */
  readonly evaluatedTiers: number;
  /** Held out of each client's own. */
  readonly ownExamples: readonly number[];
  readonly workers: number;
}
