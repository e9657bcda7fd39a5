import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { loadRun } from "prelort";
import type { Context } from "./experiment.ts";
import { runConfig, runPeer } from "./processes.ts";
import type { LlamaShape } from "./shapes.ts";

/** A federation of one client for each rank, on one device. */
export interface DeviceSetting {
  readonly device: string;
  readonly model: string;
  readonly shape: LlamaShape;
  /** In which the weights are saved. */
  readonly dtype: "f32" | "bf16";
  readonly ranks: readonly number[];
  readonly localSteps: number;
  readonly batchSize: number;
  /** Of every answer, so that all batches are equally large. */
  readonly words: number;
}

export interface Trained {
  readonly directory: string;
  readonly sha256: string;
  /** In the last round. */
  readonly samplesPerSecond: number;
  /** Most that the workers reserved on the device together; on a CPU what their processes had in memory. */
  readonly peakMiB: number;
  /** Share of the last round in which a single worker does not train. */
  readonly idleShare: number;
  /** At the largest rank, before and after. */
  readonly losses: readonly [number, number];
  /** Frozen parameters of the model. */
  readonly parameters: number;
}

/** The first round warms up; the second is measured, while nothing is evaluated. */
export const ROUNDS = 2;
const EXAMPLES_A_CLIENT = 40;

/** A run on the device, in processes of its own. `set` is as on the command line of `prelort run`. */
export async function trainOn(setting: DeviceSetting, name: string, set: readonly string[], context: Context): Promise<Trained> {
  const model = await makeModel(setting, context);
  return readTrained(await runConfig("generation-llama.yaml", name, [...configOf(setting, model), ...set], context), setting);
}

/** The config's sections, for which `configs/generation-llama.yaml` has others. */
export function configOf({ device, ranks, localSteps, batchSize, words }: DeviceSetting, model: string): readonly string[] {
  const r = Math.max(...ranks);
  const tiers = [...new Set(ranks)].toSorted((a, b) => a - b);
  // JSON is YAML.
  const sections = {
    "model.name_or_path": model,
    lora: { r, tiers, scale: 2, target_modules: ["q_proj", "v_proj"] },
    data: {
      path: path.join(model, "words.jsonl"),
      prompt: "{word}",
      answer: "{gloss}",
      max_length: words + 2,
      clients: ranks.length,
      eval_examples: 8,
    },
    strategy: { selection: { name: "all" }, rank_assignment: { name: "list", ranks }, aggregation: { name: "segment-wise" } },
    fit: { objective: "none", local_steps: localSteps, batch_size: batchSize, lr: 1e-3 },
    evaluate: { every: ROUNDS, batch_size: 8 },
    rounds: ROUNDS,
    workers: { devices: [device], threads: 1 },
  };
  return Object.entries(sections).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
}

/** Random weights, saved once. */
export async function makeModel({ model, shape, dtype, device, ranks, words }: DeviceSetting, context: Context): Promise<string> {
  const folder = path.join(context.folder, model);
  const rows = 8 + EXAMPLES_A_CLIENT * ranks.length;
  if (!existsSync(path.join(folder, "words.jsonl"))) {
    await runPeer(context.python, "make_model.py", { folder, shape, dtype, device, rows, words }, context);
  }
  return folder;
}

export interface Looped {
  readonly samplesPerSecond: number;
  readonly peakMiB: number;
}

/** The same clients, batches and steps as a plain loop over PyTorch and PEFT. */
export async function loopOn(setting: DeviceSetting, run: string, context: Context): Promise<Looped> {
  const { device, ranks, localSteps, batchSize } = setting;
  const asked = { run, model: path.join(context.folder, setting.model), rounds: ROUNDS, threads: 1, device };
  const told = await runPeer<{ round_seconds: number[]; peak_bytes: number }>(context.python, "loop.py", asked, context);
  const samples = ranks.length * localSteps * batchSize;
  return { samplesPerSecond: samples / (told.round_seconds.at(-1) ?? Number.NaN), peakMiB: told.peak_bytes / 2 ** 20 };
}

async function readTrained(directory: string, { ranks, localSteps, batchSize }: DeviceSetting): Promise<Trained> {
  const [sums, peaks] = [{ seconds: 0 }, new Map<string, number>()];
  let sha256 = "";
  for await (const event of (await loadRun(directory)).events()) {
    if (event.type === "run-end") sha256 = event.sha256;
    if (event.type !== "client-fit" || event.round !== ROUNDS) continue;
    sums.seconds += event.seconds;
    peaks.set(event.workerId, Math.max(peaks.get(event.workerId) ?? 0, event.peakMemoryBytes ?? Number.NaN));
  }
  const fit = readJsonLines<Timing>(directory, "timings.jsonl").find(({ phase, round }) => phase === "fit" && round === ROUNDS);
  const seconds = fit?.seconds ?? Number.NaN;
  const lossOf = (line: MetricsLine | undefined) => line?.by_tier.at(-1)?.loss ?? Number.NaN;
  const metrics = readJsonLines<MetricsLine>(directory, "metrics.jsonl");
  const record = JSON.parse(readFileSync(path.join(directory, "run.json"), "utf8")) as { readonly base_parameters: number };
  return {
    directory,
    sha256,
    samplesPerSecond: (ranks.length * localSteps * batchSize) / seconds,
    peakMiB: [...peaks.values()].reduce((sum, peak) => sum + peak, 0) / 2 ** 20,
    idleShare: 1 - sums.seconds / seconds,
    losses: [lossOf(metrics[0]), lossOf(metrics.at(-1))],
    parameters: record.base_parameters,
  };
}

interface Timing {
  readonly round: number;
  readonly phase: string;
  readonly seconds: number;
}

interface MetricsLine {
  readonly by_tier: readonly { readonly loss: number | null }[];
}

function readJsonLines<T>(directory: string, name: string): T[] {
  const lines = readFileSync(path.join(directory, name), "utf8").trim().split("\n");
  return lines.map((line) => JSON.parse(line) as T);
}
