import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, expect, test } from "vitest";
import { cli, temporaryFolder, tiny } from "../support/e2e.ts";

// Commands run in a data folder, whose files have the names of modules that every worker imports.

const folder = temporaryFolder();
const NAMES = [
  "random",
  "json",
  "argparse",
  "importlib",
  "torch",
  "numpy",
  "transformers",
  "sitecustomize",
  "usercustomize",
  "environment",
];
const work = () => path.join(folder(), "work");
const marker = () => path.join(folder(), "imported");

beforeAll(() => {
  mkdirSync(path.join(work(), "prelort_worker"), { recursive: true });
  const poison = `open(${JSON.stringify(marker())}, "a").write(__name__ + "\\n")\nraise SystemExit("imported " + __name__)\n`;
  for (const file of [...NAMES.map((name) => `${name}.py`), "prelort_worker/__init__.py"]) writeFileSync(path.join(work(), file), poison);
  writeFileSync(
    path.join(work(), "my_task.py"),
    "from prelort_worker.tasks.causal_lm import CausalLm\nimport beside_it\n\nclass MyTask(CausalLm):\n    pass\n",
  );
  writeFileSync(path.join(work(), "beside_it.py"), "");
  writeFileSync(
    path.join(work(), "tiny.yaml"),
    `name: tiny
rounds: 1
model: { name_or_path: ${tiny("tiny-llama")}, task: my_task:MyTask }
lora: { r: 4, tiers: [1, 4], target_modules: [q_proj, v_proj] }
data: { path: ${tiny("words.jsonl")}, prompt: "Define the noun {word} .", answer: "{gloss}", max_length: 32, eval_examples: 16, clients: 2 }
strategy: { rank_assignment: { name: list, ranks: [4, 1] } }
fit: { local_steps: 1, batch_size: 4, lr: 0.01 }
workers: { count: 1, devices: [cpu] }
`,
  );
});

test("no module from the working folder or from PYTHON* variables is imported", () => {
  const own = { PYTHONPATH: work(), PYTHONHOME: work(), PYTHONSTARTUP: path.join(work(), "random.py"), PYTHONWARNINGS: "error" };
  const env = { ...process.env, ...own, PYTHONUSERBASE: work(), PYTHONINSPECT: "1" };
  for (const args of [["run", "tiny.yaml"], ["export", "runs/tiny", "--r", "4", "--merge", "--out", "merged"], ["doctor"]]) {
    const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args], { encoding: "utf8", cwd: work(), env });
    expect(existsSync(marker()) && readFileSync(marker(), "utf8"), `prelort ${args.join(" ")}: ${stdout}${stderr}`).toBe(false);
    expect(status, stdout + stderr).toBe(0);
  }
  expect(existsSync(path.join(work(), "runs/tiny/adapters/r4/adapter_model.safetensors"))).toBe(true);
  expect(existsSync(path.join(work(), "merged/model.safetensors"))).toBe(true);
});
