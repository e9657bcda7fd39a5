import path from "node:path";
import process from "node:process";
import { federate, PrelortError, processLauncher, randomSelection, segmentWise, tieredRanks } from "prelort";

/**
 * The run under attack, in a process of its own so that it can be killed.
 *
 *   node controller.js '{"folder": "runs", "python": "…", "rounds": 60, …}'
 */
export interface ChaosAsked {
  readonly folder: string;
  readonly python: string;
  readonly rounds: number;
  readonly clients: number;
  readonly workers: number;
  readonly isResumed: boolean;
  readonly partialSums: false | { readonly every: number };
  /** Network namespaces, and where they reach this process; `lease` in seconds. */
  readonly hosts?: { readonly address: string; readonly namespaces: readonly string[]; readonly lease: number } | undefined;
}

/** One line of its output: training began, training ended, or a worker failed, and when. */
export interface ChaosTold {
  readonly what: "run-start" | "run-end" | "failure";
  readonly workerId?: string;
  /** Milliseconds since 1970. */
  readonly at: number;
}

const asked = JSON.parse(process.argv[2] ?? "") as ChaosAsked;
const { hosts } = asked;
const script = (name: string) => path.join(import.meta.dirname, "..", "..", "test", "chaos", name);
try {
  const run = federate({
    name: "chaos",
    runsDir: asked.folder,
    overwrite: !asked.isResumed,
    resume: asked.isResumed,
    seed: 5,
    rounds: asked.rounds,
    model: { nameOrPath: "chaos", task: "causal-lm" },
    lora: { r: 8, scale: 1, target_modules: ["map"] },
    data: { path: "chaos.jsonl", prompt: "{word}", answer: "{gloss}", clients: asked.clients },
    strategy: {
      selection: randomSelection({ fraction: 0.75 }),
      rankAssignment: tieredRanks({ 8: 0.25, 4: 0.25, 2: 0.25, 1: 0.25 }),
      aggregation: segmentWise(),
    },
    fit: { localSteps: 150, batchSize: 16, lr: 0.01 },
    evaluate: { shardSize: 16 },
    partialSums: asked.partialSums,
    workers: {
      count: asked.workers,
      devices: ["cpu"],
      retries: 50,
      beatTimeout: hosts?.lease ?? 4,
      startTimeout: 60,
      taskTimeout: 20,
      ...(hosts && { transport: "tcp", host: hosts.address }),
    },
    launcher: processLauncher({
      command: asked.python,
      args: [script("task_worker.py")],
      ...(hosts && { through: ["ip", "netns", "exec", "{host}", asked.python, script("far_worker.py")], hosts: hosts.namespaces }),
    }),
  });
  for await (const event of run) {
    if (event.type === "run-start" || event.type === "run-end") tell({ what: event.type, at: Date.now() });
    if (event.type === "worker-status" && event.state === "failed") tell({ what: "failure", workerId: event.workerId, at: Date.now() });
  }
  await run.result;
} catch (error) {
  process.stderr.write(
    `${error instanceof PrelortError ? `${error.kind}: ${error.message}` : String(error instanceof Error ? error.stack : error)}\n`,
  );
  process.exitCode = error instanceof PrelortError && error.kind === "environment" ? 3 : 1;
}

function tell(told: ChaosTold): void {
  process.stdout.write(`${JSON.stringify(told)}\n`);
}
