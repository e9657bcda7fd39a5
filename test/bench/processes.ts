import { cpus } from "node:os";
import path from "node:path";
import { execa } from "execa";
import { packageRoot } from "../../dist/installation.js";
import type { EchoAsked, EchoTold } from "./echo-controller.ts";
import type { Context } from "./experiment.ts";
import type { PairAsked, PairTold } from "./pair.ts";

const root = packageRoot();

/** The sources: this file runs from its compiled location. */
const sources = path.join(root, "test", "bench");

/** `prelort run` of a shipped config, with overrides. Returns its folder. */
export async function runConfig(config: string, name: string, set: readonly string[], { folder, signal }: Context): Promise<string> {
  const overrides = [...set, `name=${name}`, `runs_dir=${JSON.stringify(folder)}`].flatMap((each) => ["--set", each]);
  const args = ["run", path.join(root, "configs", config), "--overwrite", ...overrides];
  await execa(process.execPath, [path.join(root, "dist", "cli", "main.js"), ...args], { cancelSignal: signal, timeout: DEADLINE_MS });
  return path.join(folder, name);
}

const DEADLINE_MS = 900_000;

/** Runs a Python script of `peers`, and returns its last line of output, parsed as JSON. */
export async function runPeer<T>(python: string, script: string, asked: unknown, { folder, signal }: Context, threads = 1): Promise<T> {
  const { stdout } = await execa(python, [path.join(sources, "peers", script), JSON.stringify(asked)], {
    cwd: folder,
    env: {
      PYTHONPATH: path.join(root, "workers"),
      // cuda:0 is the card that it is to a worker.
      CUDA_DEVICE_ORDER: "PCI_BUS_ID",
      OMP_NUM_THREADS: `${threads}`,
      MKL_NUM_THREADS: `${threads}`,
      OPENBLAS_NUM_THREADS: `${threads}`,
      TOKENIZERS_PARALLELISM: "false",
      HF_HUB_DISABLE_PROGRESS_BARS: "1",
      FLWR_TELEMETRY_ENABLED: "0",
      RAY_USAGE_STATS_ENABLED: "0",
    },
    cancelSignal: signal,
    timeout: DEADLINE_MS,
  });
  return lastLine(stdout) as T;
}

/** Runs a script of this folder in a process of its own, and returns its last line of output, parsed as JSON. */
export async function runOurs<T>(script: string, asked: unknown, { signal }: Context, env: Record<string, string> = {}): Promise<T> {
  const { stdout } = await execa(process.execPath, [path.join(import.meta.dirname, script), JSON.stringify(asked)], {
    env,
    cancelSignal: signal,
    timeout: DEADLINE_MS,
  });
  return lastLine(stdout) as T;
}

/** A run of our controller with workers that only echo. `frames`: where to write the bytes of a worker's frames. */
export async function runEcho(
  asked: Omit<EchoAsked, "folder" | "python">,
  context: Context,
  frames: string | null = null,
): Promise<EchoTold> {
  const echo = {
    clients: asked.clients,
    in: asked.width / 2,
    out: asked.width / 2,
    frames,
    shares: asked.isElsewhere ?? asked.link !== undefined,
  };
  const { folder, python } = context;
  return runOurs("echo-controller.js", { ...asked, folder, python }, context, { PRELORT_BENCH_ECHO: JSON.stringify(echo) });
}

/** Two bare ZeroMQ sockets, of Node and of Python: how long each pass takes, in milliseconds. The first is not counted. */
export async function runPair(asked: Omit<PairAsked, "folder" | "python" | "peer">, context: Context): Promise<readonly number[]> {
  const { python, folder } = context;
  const { passMs } = await runOurs<PairTold>(
    "pair.js",
    { ...asked, folder, python, peer: path.join(sources, "peers", "pair.py") },
    context,
  );
  return passMs.slice(1);
}

export interface FlowerTold {
  readonly round_ms: readonly number[];
  readonly cpu_ms: readonly number[];
  readonly version: string;
}

/** Flower's simulation engine with clients that only echo. The first round, which starts its actors, is not counted. */
export async function runFlower(
  asked: { readonly clients: number; readonly sampled: number; readonly floats: number; readonly rounds: number },
  context: Context,
): Promise<FlowerTold> {
  const told = await runPeer<FlowerTold>(context.flower, "flower.py", { ...asked, cpus: Math.min(2, cpus().length) }, context);
  return { ...told, round_ms: told.round_ms.slice(1), cpu_ms: told.cpu_ms.slice(1) };
}

function lastLine(text: string): unknown {
  return JSON.parse(text.trimEnd().split("\n").at(-1) ?? "");
}
