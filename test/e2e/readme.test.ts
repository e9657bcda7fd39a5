import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { assignments } from "../../src/config/comparison.ts";
import { buildRun, createLanes, federate, type Lanes, loadComparison, loadConfig, plan } from "../../src/index.ts";
import { type Document, documents, readDocument, snippets } from "../support/documents.ts";
import { cli, python, root, temporaryFolder, tiny } from "../support/e2e.ts";
import { sharedWorkers } from "../support/shared-workers.ts";

const folder = temporaryFolder();
const [frontPage, guide, workers] = ["README.md", "src/README.md", "workers/README.md"].map(readDocument) as [Document, Document, Document];
const files = readdirSync(path.join(root, "configs")).filter((name) => name.endsWith(".yaml"));
/** Configs with data or models from the hub; known-configs.test.ts runs them. */
const onHub = /^(flora-dolly|flowertune-general|raflora-20newsgroups)\.yaml$/;
const configs = files.filter((name) => !name.startsWith("compare-") && !onHub.test(name));
const comparisons = files.filter((name) => name.startsWith("compare-"));

/** The prelort commands in a guide's shell snippets, without `npx prelort` and comments. */
function commandsOf(document: Document, pattern: RegExp): readonly string[] {
  const lines = snippets(document, "sh").flatMap((block) => block.split("\n"));
  return lines
    .filter((line) => line.startsWith("npx prelort ") && pattern.test(line))
    .map((line) => line.replace("npx prelort ", "").replace(/ +#.*$/, ""));
}

/** What each of the programs prints; all run in one process, since to import PyTorch takes seconds. */
function runPython(...programs: readonly string[]): readonly string[] {
  const env = { ...process.env, PYTHONPATH: path.join(root, "workers") };
  const separator = "=".repeat(30);
  const code = `import json, sys\nfor code in json.loads(sys.argv[1]):\n  exec(code, {})\n  print("${separator}")`;
  const printed = execFileSync(python, ["-c", code, JSON.stringify(programs)], { cwd: folder(), encoding: "utf8", env });
  return printed.split(separator).map((text) => text.trim());
}

function prelort(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args], { encoding: "utf8", cwd: folder() });
  expect(status, stdout + stderr).toBe(0);
  return stdout;
}

beforeAll(() => {
  // As if the package were installed there, with the optional packages that snippets import.
  mkdirSync(path.join(folder(), "node_modules"));
  symlinkSync(root, path.join(folder(), "node_modules", "prelort"));
  symlinkSync(path.join(root, "node_modules", "@opentelemetry"), path.join(folder(), "node_modules", "@opentelemetry"));
  writeFileSync(path.join(folder(), "package.json"), '{ "type": "module" }');
});

describe("every shipped config can be planned, and run:", () => {
  let lanes: Lanes;
  const pool = sharedWorkers();
  beforeAll(() => {
    lanes = createLanes({ command: python, processes: 1 });
  });
  afterAll(() => lanes.close());

  test.each(configs)("%s", async (name) => {
    const config = path.join(root, "configs", name);
    // The small language models take minutes to pretrain; a tiny one replaces them.
    const text = readFileSync(config, "utf8");
    const isLanguage = text.includes("task: causal-lm");
    const model = isLanguage ? [`model.name_or_path=${tiny("tiny-llama")}`, "evaluate.max_new_tokens=2"] : [];
    // Its v_proj takes ranks up to 16.
    const modules = isLanguage && text.includes("r: 32") ? ["lora.target_modules=[q_proj]"] : [];
    const isDirichlet = text.includes("name: dirichlet");
    const small = ["rounds=1", "data.max_examples=400", "data.eval_examples=16", "data.client_eval_examples=1", "fit.local_steps=1"];
    const shrunk = [...small, ...(isDirichlet ? ["data.partition.min_examples=4"] : []), ...model, ...modules];
    const { workers, ...options } = buildRun(await loadConfig(config, { set: [`runs_dir=${folder()}/runs`, ...shrunk] }));
    // No lane takes a model with dropout of its own, as the encoders have.
    const planned = await plan({ ...options, workers: { ...workers, count: 1 }, launcher: isLanguage ? lanes.launcher : undefined });
    expect(planned).toMatchObject({ rounds: 1, evalExamples: 16 });
    expect((await federate({ ...options, pool: pool() }).result).metrics).toMatchObject([{ round: 0 }, { round: 1, failed: [] }]);
  });
});

test.each(comparisons)("every method of %s is a config", async (name) => {
  const comparison = await loadComparison(path.join(root, "configs", name));
  for (const method of comparison.methods) {
    const { rounds } = await loadConfig(comparison.setting, { given: assignments(method) });
    expect(rounds).toBeGreaterThan(1);
  }
});

test("the quickstart's output is reported and exported as src/README.md says", () => {
  expect(prelort("report", "runs/quickstart")).toContain("report.html");
  const commands = commandsOf(guide, /export/);
  expect(commands).toHaveLength(2);
  for (const command of commands) prelort(...command.split(" "));
});

describe("with the user's own table, model and metric,", () => {
  beforeAll(() => {
    const [yaml = ""] = snippets(frontPage, "yaml");
    const rows = Array.from(
      { length: 400 },
      (_, index) => `"This is sentence ${index}, of ${index % 4}.",${18 + (index % 4)},speaker ${index % 9}`,
    );
    writeFileSync(path.join(folder(), "speeches.yaml"), yaml.replace("max_length: 64", "max_length: 16").replace("rounds: 4", "rounds: 1"));
    writeFileSync(path.join(folder(), "speeches.csv"), ["sentence,century,speaker", ...rows].join("\n"));
    writeFileSync(path.join(folder(), "centuries.py"), snippets(workers, "py").find((code) => code.includes("# centuries.py")) ?? "");
    symlinkSync(tiny("tiny-bert"), path.join(folder(), "my-encoder"));
  });

  test("the front page's commands run its YAML", () => {
    const [plan = "", run = "", ...others] = commandsOf(frontPage, /speeches/);
    expect(others).toEqual([]);
    expect(JSON.parse(prelort(...plan.split(" "), "--json"))).toMatchObject({ labels: ["18", "19", "20", "21"] });
    prelort(...run.split(" "));
  });

  test("the commands of workers/README.md run with the metric, which is reported", () => {
    const commands = commandsOf(workers, /centuries/);
    expect(commands.map((command) => command.split(" ")[0])).toEqual(["run", "evaluate", "export"]);
    for (const command of commands) prelort(...command.split(" "));
    expect(readFileSync(path.join(folder(), "runs/centuries/metrics.jsonl"), "utf8")).toContain('"name":"top 2"');
  });

  test("a YAML file is run from TypeScript as src/README.md says", () => {
    const code = snippets(guide, "ts").find((snippet) => snippet.includes("speeches.yaml")) ?? "";
    expect(runTypeScript(code.replace('["rounds=1"]', '["rounds=1", "name=from-typescript"]'))).toContain("from-typescript [");
  });
});

test("what these commands wrote is loaded as the guides' Python says, and the merged model by transformers", () => {
  const [quickstart = "", exported = ""] = snippets(guide, "py");
  const [speeches = ""] = snippets(frontPage, "py");
  const [r, other, own, label] = runPython(
    `${quickstart}\nassert sum(p.abs().sum().item() for n, p in model.named_parameters() if "lora_B" in n) > 0\nprint(model.peft_config["default"].r)`,
    exported,
    `${speeches}\nprint(model.peft_config["default"].r, sorted(p.shape[0] for n, p in model.named_parameters() if "classifier" in n)[0])`,
    'from transformers import AutoModelForSequenceClassification as A; print(A.from_pretrained("centuries-model").config.id2label[0])',
  );
  expect([r, own, label]).toEqual(["4", "4 4", "18"]);
  expect(other).not.toBe("");
});

/** Runs a snippet as a user would, against dist. Node must not see types, so it must have none. */
function runTypeScript(code: string): string {
  const file = path.join(folder(), "snippet.js");
  writeFileSync(file, code);
  return execFileSync(process.execPath, [file], { cwd: folder(), encoding: "utf8" });
}

test("the front page's TypeScript trains and saves", () => {
  const [code = ""] = snippets(frontPage, "ts");
  expect(runTypeScript(code)).toMatch(/^2 \[/m);
  expect(JSON.parse(readFileSync(path.join(folder(), "adapters/r4/adapter_config.json"), "utf8"))).toMatchObject({ r: 4, lora_alpha: 8 });
});

test("src/README.md's run without Python prints a loss that falls", () => {
  const losses = JSON.parse(runTypeScript(snippets(guide, "ts").find((code) => code.includes("prelort/testing")) ?? "")) as number[];
  expect(losses).toHaveLength(4);
  expect(losses[3]).toBeLessThan(losses[0] as number);
});

/** Each snippet with the earlier ones of its guide whose names it uses. */
function programsOf(document: Document): readonly string[] {
  const codes = snippets(document, "ts");
  const namesIn = (code: string) =>
    [...code.matchAll(/^(?:export )?(?:const|async function|function) (\w+)/gm)].map(([, name = ""]) => name);
  return codes.map((code, index) => {
    const own = namesIn(code);
    const used = codes
      .slice(0, index)
      .filter((earlier) => namesIn(earlier).some((name) => !own.includes(name) && new RegExp(`\\b${name}\\b`).test(code)));
    return [...used, code].join("\n");
  });
}

test("the guides' TypeScript compiles under strict rules", () => {
  const programs = documents.flatMap((document) =>
    programsOf(document).map((code, index) => ({ file: `${document.name.replaceAll("/", "-")}-${index}.ts`, code })),
  );
  expect(programs.length).toBeGreaterThan(5);
  for (const { file, code } of programs) writeFileSync(path.join(folder(), file), `${code}\nexport {};\n`);
  const types = ["--types", "node", "--typeRoots", path.join(root, "node_modules/@types")];
  const compiler = [
    "--strict",
    "--noEmit",
    "--target",
    "es2023",
    "--lib",
    "es2023,esnext.disposable",
    "--module",
    "nodenext",
    "--skipLibCheck",
    ...types,
  ];
  const { status, stdout } = spawnSync(path.join(root, "node_modules/.bin/tsc"), [...compiler, ...programs.map(({ file }) => file)], {
    cwd: folder(),
    encoding: "utf8",
  });
  expect(stdout).toBe("");
  expect(status).toBe(0);
});
