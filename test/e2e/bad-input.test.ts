import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { cli, temporaryFolder, tiny } from "../support/e2e.ts";

// What only the data and the model can show: all of it at once, before anything is trained.

const folder = temporaryFolder();

/** A classifier's config; the keys given replace those of a line of their own. */
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

/** Every problem that is told, as `line option: message`, or with `--set key` in place of the line. */
function problemsOf(name: string, changes: Readonly<Record<string, string>>, set: readonly string[] = []): string[] {
  const command = ["run", config(name, changes), ...set.flatMap((each) => ["--set", each])];
  const { status, stderr } = spawnSync(process.execPath, [cli, ...command], { encoding: "utf8", cwd: folder() });
  expect(status, stderr).toBe(2);
  expect(stderr).not.toContain("Traceback");
  expect(existsSync(path.join(folder(), "runs", name, "rounds")), "training had begun").toBe(false);
  const [head = "", ...lines] = stderr.trimEnd().split("\n");
  expect(head).toBe(`prelort: the config has ${lines.length === 1 ? "1 problem" : `${lines.length} problems`}:`);
  const place = new RegExp(`^  (?:${folder()}/${name}\\.yaml:(\\d+):\\d+|(--set \\S+))  `);
  return lines.map((line) => line.replace(place, (_, number: string | undefined, given: string) => `${number ?? given} `));
}

beforeAll(() => {
  const rows = readFileSync(tiny("topics.jsonl"), "utf8").trimEnd().split("\n");
  writeFileSync(path.join(folder(), "unseen.jsonl"), `${rows[0]}\n{"text": "a kind of fur", "topic": "planet"}\n`);
  writeFileSync(path.join(folder(), "long.jsonl"), [...rows, `{"text": "${"fur ".repeat(90)}", "topic": "animal"}`, ""].join("\n"));
  mkdirSync(path.join(folder(), "offices"));
  for (const [place, office] of ["north", "south"].entries()) {
    writeFileSync(path.join(folder(), "offices", `${office}.jsonl`), `${rows.slice(60 * place, 60 * place + 60).join("\n")}\n`);
  }
  writeFileSync(path.join(folder(), "offices", "west.jsonl"), `${rows[150]}\n`);
  cpSync(tiny("tiny-bert"), path.join(folder(), "no-padding"), { recursive: true });
  const file = path.join(folder(), "no-padding", "tokenizer_config.json");
  const settings = JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>;
  writeFileSync(file, JSON.stringify({ ...settings, pad_token: null, eos_token: null }));
});

describe("all at once are told", () => {
  test("columns that are not there, a rank beyond a module's side, a module that is no linear one", () => {
    const found = problemsOf("columns", {
      data: `{ path: ${tiny("topics.jsonl")}, text: "{txet}", label: tpoic, eval_examples: 16, clients: 3 }`,
      lora: "{ r: 64, target_modules: [query, word_embeddings] }",
      strategy: "{ rank_assignment: { name: tiered, shares: { 64: 0.5, 1: 0.5 } } }",
    });
    expect(found).toEqual([
      expect.stringMatching(/^6 lora\.r: must be at most 32, the smaller side of the adapted module .*query and 1 more, got 64/),
      expect.stringMatching(/^6 lora\.target_modules: takes in .*word_embeddings, a Embedding/),
      expect.stringMatching(/^7 data\.text: .*topics\.jsonl:1 and every other row: has no column 'txet'.*did you mean 'text'\?/),
      expect.stringMatching(/^7 data\.label: .*has no column 'tpoic'.*did you mean 'topic'\?/),
    ]);
  });

  test("a client without examples, a label that no training example has, and a kind of attention that there is not", () => {
    const found = problemsOf("clients", {
      model: `{ name_or_path: ${tiny("tiny-bert")}, task: sequence-classification, attention: psychic }`,
      data: `{ path: ${folder()}/offices, eval_path: ${folder()}/unseen.jsonl, text: "{text}", label: topic, client_eval_examples: 2, partition: { name: files } }`,
    });
    expect(found).toEqual([
      expect.stringMatching(/^5 model\.attention: psychic: /),
      expect.stringMatching(/^7 data\.clients: client c02: expected at least 3 examples, .* got 1/),
      expect.stringMatching(/^7 data\.eval_path: has labels that this model does not have: planet \(1\), in .*unseen\.jsonl:2; it has /),
    ]);
  });

  test("texts longer than the model takes, and weights of 4 bits where there is no CUDA", () => {
    const found = problemsOf("long", {
      model: `{ name_or_path: ${tiny("tiny-bert")}, task: sequence-classification, dtype: bf16, quantization: 4bit }`,
      data: `{ path: ${folder()}/long.jsonl, text: "{text}", label: topic, max_length: 200, eval_examples: 16, clients: 3 }`,
    });
    expect(found).toEqual([
      expect.stringMatching(/^5 model\.quantization: 4bit weights need a CUDA device/),
      expect.stringMatching(/^7 data\.max_length: the longest example has \d+ tokens, the model takes at most 64; lower data\.max_length/),
    ]);
  });

  test("a tokenizer that cannot pad, a column that is not there, and a model that PEFT finds nothing to adapt in", () => {
    const found = problemsOf("padding", {
      data: `{ path: ${tiny("topics.jsonl")}, text: "{words}", label: topic, eval_examples: 16, clients: 3 }`,
      model: `{ name_or_path: ${folder()}/no-padding, task: sequence-classification }`,
      lora: "{ r: 4, target_modules: [q_proj] }",
    });
    expect(found).toEqual([
      expect.stringMatching(/^5 model\.name_or_path: the tokenizer of .*no-padding has neither a padding nor an end-of-text token/),
      expect.stringMatching(
        /^6 lora\.target_modules: nothing in the model is named q_proj; its linear modules are query, key, value, dense$/,
      ),
      expect.stringMatching(/^7 data\.text: .*has no column 'words'/),
    ]);
  });
});

test("faulty rows are told by key, file as it was written, and line; and what the data alone shows of the strategy, too", () => {
  const data = `{ path: faulty.jsonl, text: "{text}", label: topic, eval_examples: 16, partition: { name: value, by: topic } }`;
  const faulty = `{"text": "", "topic": "food"}\n{"text": "fur\\ud83d", "topic": NaN}\n{"text": "", "topic": "tool"}\n{]\n`;
  writeFileSync(path.join(folder(), "faulty.jsonl"), `${faulty}${readFileSync(tiny("topics.jsonl"), "utf8")}`);
  const missing = "column 'topic' (data.label) is NaN, a missing value; fill it in or remove the row";
  expect(problemsOf("faulty", { data })).toEqual([
    expect.stringMatching(/^7 data\.path: faulty\.jsonl:4: is not valid JSON/),
    expect.stringMatching(/^7 data\.text: faulty\.jsonl:2: column 'text' \(data\.text\) holds half a surrogate pair, U\+D83D/),
    "7 data.text: faulty.jsonl:1, faulty.jsonl:3: gives a text without a token",
    `7 data.label: faulty.jsonl:2: ${missing}`,
    expect.stringMatching(/^7 data\.partition\.by: faulty\.jsonl:2: column 'topic' \(data\.partition\.by\) is NaN/),
  ]);

  const strategy = "{ rank_assignment: { name: list, ranks: [4, 1] } }";
  const whole = data.replace("faulty.jsonl", tiny("topics.jsonl"));
  expect(problemsOf("ranks", { data: whole, strategy })).toEqual([
    expect.stringMatching(/^8 strategy\.rank_assignment\.ranks: .*\b4 .*data\.clients.* got 2$/),
  ]);
  const set = ["strategy.rank_assignment.ranks=[4]"];
  expect(problemsOf("ranks", { data: whole, strategy }, set)).toEqual([
    expect.stringMatching(/^--set strategy\.rank_assignment\.ranks .*\b4 .*data\.clients.* got 1$/),
  ]);
});

test("a task of one's own that cannot be imported, or is none, is told with its key", () => {
  writeFileSync(path.join(folder(), "tasks_of_mine.py"), "class NotATask:\n    pass\n");
  const model = (task: string) => `{ name_or_path: ${tiny("tiny-bert")}, task: "${task}" }`;
  const data = `{ path: ${tiny("topics.jsonl")}, eval_examples: 16, clients: 3 }`;
  expect(problemsOf("none", { model: model("tasks_of_mine:NotATask"), data })).toEqual([
    expect.stringMatching(/^5 model\.task: module tasks_of_mine has no class NotATask that is a prelort_worker\.tasks\.Task/),
  ]);
  expect(problemsOf("missing", { model: model("no_such_module:Task"), data })).toEqual([
    expect.stringMatching(/^5 model\.task: module no_such_module cannot be imported \(looked for in .*ModuleNotFoundError/),
  ]);
});

test("a task to begin with is written, and runs as it is", () => {
  const run = (...args: string[]) => spawnSync(process.execPath, [cli, ...args], { encoding: "utf8", cwd: folder() });
  const made = run("new-task", "year_of_speech");
  expect(made.status, made.stderr).toBe(0);
  expect(readFileSync(path.join(folder(), "year_of_speech.py"), "utf8")).toContain("class YearOfSpeech(Task)");
  expect(run("new-task", "year_of_speech").stderr).toContain("is there already");
  expect(run("new-task", "Year-1").stderr).toContain("must be a Python module's name");

  const settings = [
    "rounds=1",
    `model.name_or_path=${tiny("tiny-bert")}`,
    "lora.tiers=[1,2,4,8]",
    "data.eval_examples=40",
    "fit.local_steps=2",
  ];
  const trained = run("run", "year_of_speech.yaml", ...settings.flatMap((each) => ["--set", each]));
  expect(trained.status, trained.stdout + trained.stderr).toBe(0);
  const last = readFileSync(path.join(folder(), "runs/year_of_speech/metrics.jsonl"), "utf8").trimEnd().split("\n").at(-1) ?? "";
  const { by_tier: tiers } = JSON.parse(last) as { by_tier: { r: number; own: { name: string; value: number }[] }[] };
  expect(tiers.map(({ r, own }) => [r, own.map(({ name }) => name)])).toEqual([1, 2, 4, 8].map((r) => [r, ["years off"]]));
  for (const { own } of tiers) expect(own[0]?.value).toBeGreaterThan(1);

  const judged = run("evaluate", "runs/year_of_speech", "--r", "3", "--json");
  expect(judged.status, judged.stderr).toBe(0);
  expect(JSON.parse(judged.stdout)).toMatchObject({ byTier: [{ r: 3, own: [{ name: "years off" }] }] });

  const whole = run("evaluate", "runs/year_of_speech", "--r", "3", "--data", "year_of_speech.csv");
  expect(whole.stdout).toContain("\n800 examples");
  expect(whole.stdout).not.toContain("note:");
  const limited = run("evaluate", "runs/year_of_speech", "--r", "3", "--data", "year_of_speech.csv", "--set", "data.eval_examples=64");
  expect(limited.stdout).toContain("note: evaluation takes 64 of 800 examples of year_of_speech.csv (data.eval_examples)");
});
