import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { assignments } from "../../src/config/comparison.ts";
import { loadComparison, loadConfig } from "../../src/index.ts";
import { cli, python, root, temporaryFolder, tiny } from "../support/e2e.ts";

const folder = temporaryFolder();
const readme = readFileSync(path.join(root, "README.md"), "utf8");
const files = readdirSync(path.join(root, "configs")).filter((name) => name.endsWith(".yaml"));
/** Of the hub, which known-configs.test.ts runs. */
const onHub = /^(flora-dolly|flowertune-general|raflora-20newsgroups)\.yaml$/;
const configs = files.filter((name) => !name.startsWith("compare-") && !onHub.test(name));
const comparisons = files.filter((name) => name.startsWith("compare-"));

/** Code blocks of the README in one language. */
function snippets(language: string): string[] {
  return [...readme.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, "gms"))].map(([, code]) => code ?? "");
}

function prelort(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args], { encoding: "utf8", cwd: folder() });
  expect(status, stdout + stderr).toBe(0);
  return stdout;
}

beforeAll(() => {
  // As if it had been installed there.
  mkdirSync(path.join(folder(), "node_modules"));
  symlinkSync(root, path.join(folder(), "node_modules", "prelort"));
  writeFileSync(path.join(folder(), "package.json"), '{ "type": "module" }');
});

describe("every shipped config can be planned, and run:", () => {
  test.each(configs)("%s", (name) => {
    const config = path.join(root, "configs", name);
    // The small language models take minutes to pretrain; here another stands in.
    const isLanguage = readFileSync(config, "utf8").includes("task: causal-lm");
    const model = isLanguage ? [`model.name_or_path=${tiny("tiny-llama")}`, "evaluate.max_new_tokens=2"] : [];
    const isDirichlet = readFileSync(config, "utf8").includes("name: dirichlet");
    const small = ["rounds=1", "data.max_examples=400", "data.eval_examples=16", "data.client_eval_examples=1", "fit.local_steps=1"];
    const shrunk = [...small, ...(isDirichlet ? ["data.partition.min_examples=4"] : []), ...model];
    const overrides = shrunk.flatMap((override) => ["--set", override]);
    expect(prelort("plan", config, ...overrides)).toContain("held out");
    prelort("run", config, ...overrides);
  });
});

test.each(comparisons)("every method of %s is a config", async (name) => {
  const comparison = await loadComparison(path.join(root, "configs", name));
  for (const method of comparison.methods) {
    const { rounds } = await loadConfig(comparison.setting, { set: assignments(method) });
    expect(rounds).toBeGreaterThan(1);
  }
});

test("what the quickstart wrote is loaded as the README says, and reported", () => {
  const [code = ""] = snippets("py");
  const script = `${code}\nassert sum(p.abs().sum().item() for n, p in model.named_parameters() if "lora_B" in n) > 0\nprint(model.peft_config["default"].r)`;
  const env = { ...process.env, PYTHONPATH: path.join(root, "workers") };
  expect(execFileSync(python, ["-c", script], { cwd: folder(), encoding: "utf8", env }).trim()).toBe("4");
  expect(prelort("report", "runs/quickstart")).toContain("report.html");
});

test("what the quickstart wrote is taken along, and loaded, as the README says", () => {
  const commands = [
    ...snippets("sh")
      .join("")
      .matchAll(/^npx prelort (export [^#\n]*)/gm),
  ].map(([, command = ""]) => command.trim());
  expect(commands).toHaveLength(2);
  for (const command of commands) prelort(...command.split(" "));
  const [, code = ""] = snippets("py").filter((snippet) => snippet.includes("MeanPooledClassifier"));
  const env = { ...process.env, PYTHONPATH: path.join(root, "workers") };
  expect(execFileSync(python, ["-c", code], { cwd: folder(), encoding: "utf8", env }).trim()).not.toBe("");
});

test("its TypeScript compiles under strict rules and runs", () => {
  const programs = snippets("ts").map((code, place) => {
    const file = path.join(folder(), `snippet-${place}.ts`);
    writeFileSync(file, code);
    return file;
  });
  expect(programs.length).toBeGreaterThan(1);
  const types = ["--types", "node", "--typeRoots", path.join(root, "node_modules/@types")];
  const compiler = ["--strict", "--target", "es2023", "--module", "nodenext", "--skipLibCheck", ...types];
  execFileSync(path.join(root, "node_modules/.bin/tsc"), [...compiler, ...programs], { cwd: folder(), stdio: "inherit" });

  const [first = ""] = programs;
  const output = execFileSync(process.execPath, [first.replace(/ts$/, "js")], { cwd: folder(), encoding: "utf8" });
  expect(output).toMatch(/^2 \[/m);
  expect(JSON.parse(readFileSync(path.join(folder(), "adapters/r4/adapter_config.json"), "utf8"))).toMatchObject({ r: 4, lora_alpha: 8 });
});

test("its config reference is a config, and names every key", async () => {
  const [yaml = ""] = snippets("yaml");
  const file = path.join(folder(), "reference.yaml");
  writeFileSync(file, yaml);
  writeFileSync(path.join(folder(), "definitions.jsonl"), "");
  const config = await loadConfig(file);
  expect(config.workers.taskTimeout).toBe(600);
  for (const key of ["pooling", "modules_to_save", "text", "label", "max_examples", "head_lr", "init_from", "python", "slots_per_device"])
    expect(yaml, key).toMatch(new RegExp(`^ +# ${key}:`, "m"));
});

test("its commands are the ones there are", () => {
  const scripts = Object.keys(JSON.parse(readFileSync(path.join(root, "package.json"), "utf8")).scripts);
  for (const [, name = ""] of readme.matchAll(/npm (?:run (\w+)|(?=test))/g)) if (name) expect(scripts).toContain(name);
  const help = prelort("--help");
  for (const [, command = ""] of readme.matchAll(/prelort ([a-z]+) ?(?:CONFIG|RUN|`|$)/gm)) expect(help).toContain(command);
});
