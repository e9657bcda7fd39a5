import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import path from "node:path";
import { cacheFolder, packageRoot } from "../../../dist/installation.js";
import type { Context, Experiment } from "../experiment.ts";
import { runConfig, runOurs, runPeer } from "../processes.ts";
import { SMOLLM2 } from "../shapes.ts";
import type { StartAsked } from "../start-controller.ts";

export const MODEL = path.join(cacheFolder(), "models", "all-MiniLM-L6-v2");
const ROUNDS = 1;

/** A round of the quickstart with its evaluations before and after, without start-up, against a plain loop. */
export const quickstart: Experiment = {
  name: "quickstart",
  rows: [
    { name: "quickstart's run, one worker", unit: "s", ours: "one worker", peer: "plain loop, one thread", target: { atMost: 1.05 } },
    { name: "quickstart's run, two workers", unit: "s", ours: "two workers", peer: "plain loop, one thread", target: { atMost: 0.65 } },
    { name: "quickstart's run, two workers, against all threads", unit: "s", ours: "two workers", peer: "plain loop, all threads" },
  ],
  async measure(context) {
    const ours = (count: number) =>
      runConfig("quickstart.yaml", `workers-${count}`, [`rounds=${ROUNDS}`, `workers.count=${count}`], context);
    const [one, two] = [await ours(1), await ours(2)];
    const loop = (threads: number) =>
      runPeer<{ seconds: number }>(
        context.python,
        "loop.py",
        { run: one, model: MODEL, rounds: ROUNDS, threads, device: "cpu" },
        context,
        threads,
      );
    return {
      "one worker": trainingSeconds(one),
      "two workers": trainingSeconds(two),
      "plain loop, one thread": (await loop(1)).seconds,
      "plain loop, all threads": (await loop(cpus().length)).seconds,
    };
  },
};

/** CPU time of one step of one thread. */
export const nestedStep: Experiment = {
  name: "nested-step",
  rows: [
    { name: "a stratified step", unit: "ms", ours: "stratified", peer: "plain LoRA", target: { atMost: 1.05 } },
    { name: "a step of sum, of its 5 truncations", unit: "ms", ours: "sum / 5", peer: "plain LoRA", target: { atMost: 1.03 } },
  ],
  async measure(context) {
    const run = await warmRun(context);
    const index = recordOf(run).index.path;
    const asked = { model: MODEL, index, steps: 3, repeats: 3 };
    const step = await runPeer<{ plain: number; stratified: number; sum: number; truncations: number }>(
      context.python,
      "plain_step.py",
      asked,
      context,
    );
    return { "plain LoRA": step.plain, stratified: step.stratified, "sum / 5": step.sum / step.truncations };
  },
};

/** From the start of the process to the end of the first step, with data and model already prepared. */
export const start: Experiment = {
  name: "start",
  rows: [{ name: "time to the first training step", unit: "s", ours: "prelort", peer: "plain script", target: { atMost: 1.15 } }],
  async measure(context) {
    const run = await warmRun(context);
    const asked: StartAsked = { config: path.join(packageRoot(), "configs", "quickstart.yaml"), set: [...ONE_STEP, setFolder(context)] };
    const seconds = async (told: Promise<{ readonly step: number }>, started = Date.now() / 1000) => (await told).step - started;
    return {
      prelort: await seconds(runOurs("start-controller.js", asked, context)),
      "plain script": await seconds(runPeer(context.python, "start.py", { run, model: MODEL }, context)),
    };
  },
};

const ONE_STEP = ["rounds=1", "workers.count=1", "fit.local_steps=1", "data.eval_examples=1", "name=warm"];

function setFolder({ folder }: Context): string {
  return `runs_dir=${JSON.stringify(folder)}`;
}

/** A run of one step, which prepares the data. */
function warmRun(context: Context): Promise<string> {
  return runConfig("quickstart.yaml", "warm", ONE_STEP, context);
}

/** Time from one client to the next on a warm worker, with a model of SmolLM2-135M's shape: fits without a step. */
export const clientSwitch: Experiment = {
  name: "switch",
  rows: [
    {
      name: "switch of client on a warm worker, SmolLM2's shape, r = 16",
      unit: "ms",
      ours: "prelort",
      peer: { limit: 50 },
      target: { atMost: 1 },
    },
  ],
  async measure(context, repeat) {
    const model = path.join(context.folder, "smollm2");
    const made = { folder: model, shape: SMOLLM2, dtype: "f32", device: "cpu", rows: 200, words: 2 };
    if (repeat === 0) await runPeer(context.python, "make_model.py", made, context);
    const clients = 10;
    const run = await runConfig(
      "generation-llama.yaml",
      "switch",
      [
        `model.name_or_path=${JSON.stringify(model)}`,
        `data={path: ${JSON.stringify(path.join(model, "words.jsonl"))}, prompt: "{word}", answer: "{gloss}", clients: ${clients}, eval_examples: 1}`,
        "lora={r: 16, tiers: [16], scale: 2, target_modules: [q_proj, v_proj]}",
        `strategy={selection: {name: all}, rank_assignment: {name: list, ranks: [${Array(clients).fill(16).join(", ")}]}, aggregation: {name: segment-wise}}`,
        "fit={local_steps: 0}",
        "evaluate={every: 10}",
        "rounds=4",
        "workers.count=1",
      ],
      context,
    );
    const rounds = timingsOf(run).filter(({ phase, round }) => phase === "fit" && round > 1);
    return { prelort: (1000 * rounds.reduce((sum, { seconds }) => sum + seconds, 0)) / rounds.length / clients };
  },
};

const STARTING: readonly string[] = ["start workers", "prepare data", "load model"];

interface Timing {
  readonly round: number;
  readonly phase: string;
  readonly seconds: number;
}

function timingsOf(run: string): readonly Timing[] {
  const lines = readFileSync(path.join(run, "timings.jsonl"), "utf8").trim().split("\n");
  return lines.map((line) => JSON.parse(line) as Timing);
}

/** A run without its start-up and the final export. */
function trainingSeconds(run: string): number {
  return timingsOf(run)
    .filter(({ phase }) => !STARTING.includes(phase) && phase !== "save")
    .reduce((sum, { seconds }) => sum + seconds, 0);
}

function recordOf(run: string): { readonly index: { readonly path: string } } {
  return JSON.parse(readFileSync(path.join(run, "run.json"), "utf8")) as { readonly index: { readonly path: string } };
}
