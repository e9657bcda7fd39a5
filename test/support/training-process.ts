import { type ChildProcess, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { expect } from "vitest";
import { cli, tiny } from "./e2e.ts";
import { eventually } from "./patience.ts";

/**
 * A controller in a process of its own that trains far longer than a test takes. Resolves once it trains; `onStart` gets it before
 * that, to end it if the test fails.
 */
export async function startTraining(
  runsDir: string,
  name: string,
  workers: object,
  onStart: (controller: ChildProcess) => void,
): Promise<{ readonly controller: ChildProcess; readonly output: string }> {
  const config = {
    name,
    runs_dir: runsDir,
    rounds: 1000,
    model: { name_or_path: tiny("tiny-llama"), task: "causal-lm" },
    lora: { r: 1, target_modules: ["q_proj"] },
    data: { path: tiny("words.jsonl"), prompt: "{word}", answer: "{gloss}", max_length: 32, eval_examples: 24, clients: 2 },
    strategy: { rank_assignment: { name: "list", ranks: [1, 1] } },
    workers,
  };
  const file = path.join(runsDir, `${name}.yaml`);
  writeFileSync(file, JSON.stringify(config));
  const controller = spawn(process.execPath, [cli, "run", file, "--json"], { stdio: ["ignore", "pipe", "inherit"] });
  onStart(controller);
  let output = "";
  controller.stdout.on("data", (data: Buffer) => (output += data.toString()));
  await eventually(() => expect(output).toContain('"client-fit"'));
  return { controller, output };
}
