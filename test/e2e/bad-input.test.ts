import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { openConfig, withConfig } from "../../src/config/load.ts";
import { buildRun, ConfigError, federate } from "../../src/index.ts";
import { cli, temporaryFolder, tiny } from "../support/e2e.ts";
import { onPool, sharedWorkers } from "../support/shared-workers.ts";

// Problems that only the data and the model reveal are reported together, before training starts.

const folder = temporaryFolder();

/** Writes a classifier's config; `changes` replaces whole top-level keys. */
function config(name: string, changes: Readonly<Record<string, string>>): string {
  const keys = {
    model: `{ name_or_path: ${tiny("tiny-bert")}, task: sequence-classification }`,
    lora: "{ r: 4, target_modules: [query, value] }",
    data: `{ path: ${tiny("topics.jsonl")}, text: "{text}", label: topic, max_length: 32, eval_examples: 16, clients: 3 }`,
    strategy: "{ rank_assignment: { name: tiered, shares: { 4: 0.5, 1: 0.5 } } }",
    ...changes,
  };
  const file = path.join(folder(), `${name}.yaml`);
  const lines = Object.entries(keys).map(([key, value]) => `${key}: ${value}`);
  writeFileSync(
    file,
    [`name: ${name}`, `runs_dir: ${folder()}/runs`, "rounds: 2", "workers: { count: 1, devices: [cpu] }", ...lines, ""].join("\n"),
  );
  return file;
}

type Changes = Readonly<Record<string, string>>;

/** Every reported problem as `line key: message`, or as `--set key message`. */
async function problemsOf(name: string, changes: Changes, set: readonly string[] = []): Promise<string[]> {
  const failed = withConfig(await openConfig(config(name, changes), { set }), (loaded) => {
    return federate(onPool(buildRun(loaded), pool())).result;
  });
  const error: unknown = await failed.catch((reason: unknown) => reason);
  if (!(error instanceof ConfigError)) throw error;
  return problemsIn(error.message, name);
}

/** The same from the command line. */
function printedProblemsOf(name: string, changes: Changes): string[] {
  const { status, stderr } = spawnSync(process.execPath, [cli, "run", config(name, changes)], { encoding: "utf8", cwd: folder() });
  expect(status, stderr).toBe(2);
  return problemsIn(stderr, name);
}

function problemsIn(report: string, name: string): string[] {
  expect(report).not.toContain("Traceback");
  expect(existsSync(path.join(folder(), "runs", name, "rounds")), "training had begun").toBe(false);
  const [head = "", ...lines] = report.trimEnd().split("\n");
  expect(head).toMatch(new RegExp(`\\b${lines.length}\\b`));
  const location = new RegExp(`^  (?:${folder()}/${name}\\.yaml:(\\d+):\\d+|(--set \\S+))  `);
  return lines.map((line) => line.replace(location, (_, number: string | undefined, given: string) => `${number ?? given} `));
}

const pool = sharedWorkers();

beforeAll(() => {
  const rows = readFileSync(tiny("topics.jsonl"), "utf8").trimEnd().split("\n");
  writeFileSync(path.join(folder(), "unseen.jsonl"), `${rows[0]}\n{"text": "a kind of fur", "topic": "planet"}\n`);
  writeFileSync(path.join(folder(), "long.jsonl"), [...rows, `{"text": "${"fur ".repeat(90)}", "topic": "animal"}`, ""].join("\n"));
  mkdirSync(path.join(folder(), "offices"));
  for (const [index, office] of ["north", "south"].entries()) {
    writeFileSync(path.join(folder(), "offices", `${office}.jsonl`), `${rows.slice(60 * index, 60 * index + 60).join("\n")}\n`);
  }
  writeFileSync(path.join(folder(), "offices", "west.jsonl"), `${rows[150]}\n`);
  cpSync(tiny("tiny-bert"), path.join(folder(), "no-padding"), { recursive: true });
  const file = path.join(folder(), "no-padding", "tokenizer_config.json");
  const settings = JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>;
  writeFileSync(file, JSON.stringify({ ...settings, pad_token: null, eos_token: null }));
});

describe("one command reports together", () => {
  test("missing columns, a rank above a module's smaller side, a target module that is not linear", async () => {
    const found = await problemsOf("columns", {
      data: `{ path: ${tiny("topics.jsonl")}, text: "{txet}", label: tpoic, eval_examples: 16, clients: 3 }`,
      lora: "{ r: 64, target_modules: [query, word_embeddings] }",
      strategy: "{ rank_assignment: { name: tiered, shares: { 64: 0.5, 1: 0.5 } } }",
    });
    expect(found).toEqual([
      expect.stringMatching(/^6 lora\.r: .*\b32\b.*query.*\b64$/),
      expect.stringMatching(/^6 lora\.target_modules: .*word_embeddings.*\bEmbedding\b/),
      expect.stringMatching(/^7 data\.text: .*topics\.jsonl:1\b.*'txet'.*'text'/),
      expect.stringMatching(/^7 data\.label: .*topics\.jsonl:1\b.*'tpoic'.*'topic'/),
    ]);
  });

  test("a client with too few examples, a label that no training example has, an unknown kind of attention", async () => {
    const found = await problemsOf("clients", {
      model: `{ name_or_path: ${tiny("tiny-bert")}, task: sequence-classification, attention: psychic }`,
      data: `{ path: ${folder()}/offices, eval_path: ${folder()}/unseen.jsonl, text: "{text}", label: topic, client_eval_examples: 2, partition: { name: files } }`,
    });
    expect(found).toEqual([
      expect.stringMatching(/^5 model\.attention: .*\bpsychic\b/),
      expect.stringMatching(/^7 data\.clients: .*\bc02\b.*\b3\b.*\b1\b/),
      expect.stringMatching(/^7 data\.eval_path: .*\bplanet\b.*unseen\.jsonl:2\b.*\banimal\b/),
    ]);
  });

  test("texts longer than the model's context, 4-bit weights without CUDA", async () => {
    const found = await problemsOf("long", {
      model: `{ name_or_path: ${tiny("tiny-bert")}, task: sequence-classification, dtype: bf16, quantization: 4bit }`,
      data: `{ path: ${folder()}/long.jsonl, text: "{text}", label: topic, max_length: 200, eval_examples: 16, clients: 3 }`,
    });
    expect(found).toEqual([
      expect.stringMatching(/^5 model\.quantization: .*\b4bit\b.*\bCUDA\b/),
      expect.stringMatching(/^7 data\.max_length: .*\b9\d\b.*\b64\b.*data\.max_length/),
    ]);
  });

  test("a tokenizer that cannot pad, a missing column, a model without any of the target modules", async () => {
    const found = await problemsOf("padding", {
      data: `{ path: ${tiny("topics.jsonl")}, text: "{words}", label: topic, eval_examples: 16, clients: 3 }`,
      model: `{ name_or_path: ${folder()}/no-padding, task: sequence-classification }`,
      lora: "{ r: 4, target_modules: [q_proj] }",
    });
    expect(found).toEqual([
      expect.stringMatching(/^5 model\.name_or_path: .*no-padding\b.*\bpadding\b/),
      expect.stringMatching(/^6 lora\.target_modules: .*\bq_proj\b.*\bquery, key, value, dense$/),
      expect.stringMatching(/^7 data\.text: .*topics\.jsonl:1\b.*'words'/),
    ]);
  });
});

test("faulty rows are reported by key, file as the config spells it, and line, and so is a rank list that does not match the data", async () => {
  const data = `{ path: faulty.jsonl, text: "{text}", label: topic, eval_examples: 16, partition: { name: value, by: topic } }`;
  const faulty = `{"text": "", "topic": "food"}\n{"text": "fur\\ud83d", "topic": NaN}\n{"text": "", "topic": "tool"}\n{]\n`;
  writeFileSync(path.join(folder(), "faulty.jsonl"), `${faulty}${readFileSync(tiny("topics.jsonl"), "utf8")}`);
  expect(printedProblemsOf("faulty", { data })).toEqual([
    expect.stringMatching(/^7 data\.path: faulty\.jsonl:4: .*\bJSON\b/),
    expect.stringMatching(/^7 data\.text: faulty\.jsonl:2: .*'text' \(data\.text\).*U\+D83D/),
    expect.stringMatching(/^7 data\.text: faulty\.jsonl:1, faulty\.jsonl:3: /),
    expect.stringMatching(/^7 data\.label: faulty\.jsonl:2: .*'topic' \(data\.label\).*\bNaN\b/),
    expect.stringMatching(/^7 data\.partition\.by: faulty\.jsonl:2: .*'topic' \(data\.partition\.by\).*\bNaN\b/),
  ]);

  const strategy = "{ rank_assignment: { name: list, ranks: [4, 1] } }";
  const whole = data.replace("faulty.jsonl", tiny("topics.jsonl"));
  expect(await problemsOf("ranks", { data: whole, strategy })).toEqual([
    expect.stringMatching(/^8 strategy\.rank_assignment\.ranks: .*\b4 .*data\.clients.* got 2$/),
  ]);
  const set = ["strategy.rank_assignment.ranks=[4]"];
  expect(await problemsOf("ranks", { data: whole, strategy }, set)).toEqual([
    expect.stringMatching(/^--set strategy\.rank_assignment\.ranks .*\b4 .*data\.clients.* got 1$/),
  ]);
});

test("a custom task that cannot be imported, or is not a Task, is reported with its key", async () => {
  writeFileSync(path.join(folder(), "tasks_of_mine.py"), "class NotATask:\n    pass\n");
  const model = (task: string) => `{ name_or_path: ${tiny("tiny-bert")}, task: "${task}" }`;
  const data = `{ path: ${tiny("topics.jsonl")}, eval_examples: 16, clients: 3 }`;
  expect(await problemsOf("none", { model: model("tasks_of_mine:NotATask"), data })).toEqual([
    expect.stringMatching(/^5 model\.task: .*\btasks_of_mine\b.*\bNotATask\b.*\bprelort_worker\.tasks\.Task\b/),
  ]);
  expect(await problemsOf("missing", { model: model("no_such_module:Task"), data })).toEqual([
    expect.stringMatching(/^5 model\.task: .*\bno_such_module\b.*\bModuleNotFoundError\b/),
  ]);
});

test("new-task writes a task that runs unchanged", () => {
  const run = (...args: string[]) => spawnSync(process.execPath, [cli, ...args], { encoding: "utf8", cwd: folder() });
  const made = run("new-task", "year_of_speech");
  expect(made.status, made.stderr).toBe(0);
  expect(readFileSync(path.join(folder(), "year_of_speech.py"), "utf8")).toContain("class YearOfSpeech(Task)");
  for (const [name, fact] of [
    ["year_of_speech", "year_of_speech.py"],
    ["Year-1", "Year-1"],
  ] as const) {
    const { status, stderr } = run("new-task", name);
    expect([status, stderr]).toEqual([2, expect.stringContaining(fact)]);
  }

  const settings = [
    "rounds=1",
    `model.name_or_path=${tiny("tiny-bert")}`,
    "lora.tiers=[1,2,4,8]",
    "workers.count=1",
    "data.eval_examples=40",
    "fit.local_steps=2",
  ];
  const trained = run("run", "year_of_speech.yaml", ...settings.flatMap((each) => ["--set", each]));
  expect(trained.status, trained.stdout + trained.stderr).toBe(0);
  const last = readFileSync(path.join(folder(), "runs/year_of_speech/metrics.jsonl"), "utf8").trimEnd().split("\n").at(-1) ?? "";
  const { by_tier: tiers } = JSON.parse(last) as { by_tier: { r: number; own: { name: string; value: number }[] }[] };
  expect(tiers.map(({ r, own }) => [r, own.map(({ name }) => name)])).toEqual([1, 2, 4, 8].map((r) => [r, ["years off"]]));
  for (const { own } of tiers) expect(own[0]?.value).toBeGreaterThan(1);

  const onTable = ["evaluate", "runs/year_of_speech", "--r", "3", "--data", "year_of_speech.csv", "--json"];
  const evaluated = run(...onTable);
  expect(evaluated.status, evaluated.stderr).toBe(0);
  expect(JSON.parse(evaluated.stdout)).toMatchObject({ byTier: [{ r: 3, examples: 800, own: [{ name: "years off" }] }], remarks: [] });
  expect(JSON.parse(run(...onTable, "--set", "data.eval_examples=64").stdout)).toMatchObject({
    byTier: [{ examples: 64 }],
    remarks: [expect.stringMatching(/\b64\b.*\b800\b.*year_of_speech\.csv.*data\.eval_examples/)],
  });
});
