import { mkdtemp, mkdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { loadConfig } from "../../../src/config/load.ts";
import { ConfigError } from "../../../src/errors.ts";

const VALID = `seed: 7
rounds: 3
strategy:
  rank_assignment: { name: tiered, shares: { 8: 0.25, 2: 0.75 } }
model: { name_or_path: prelort:tiny, task: causal-lm }
lora: { r: 8, target_modules: all-linear, modules_to_save: [score] }
data:
  path: prelort:words
  prompt: "Define {word}."
  answer: "{gloss}"
  clients: 4
`;

let folder: string;
let file: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "prelort-config-"));
  file = join(folder, "run.yaml");
});
afterEach(() => rm(folder, { recursive: true }));

/** Every issue as `line:col path: message`, or `--set key path: message`. */
async function issuesOf(text: string, set: readonly string[] = []): Promise<string[]> {
  await writeFile(file, text);
  const error = await loadConfig(file, { set }).catch((caught: unknown) => caught);
  if (!(error instanceof ConfigError)) throw new Error(`expected a ConfigError, got ${JSON.stringify(error)}`);
  return error.issues.map(({ path, message, location }) => `${location?.replace(`${file}:`, "")} ${path}: ${message}`);
}

async function load(text: string, set: readonly string[] = []) {
  await writeFile(file, text);
  return loadConfig(file, { set });
}

describe("a template given by --set", () => {
  it("that YAML reads as a map is told how to quote", async () => {
    const quoted = `quote it for YAML: --set 'data.answer="{gloss}"'`;
    expect(await issuesOf(VALID, ["data.answer={gloss}"])).toEqual([
      `--set data.answer data.answer: must be a string, got a map; ${quoted}`,
    ]);
    expect((await load(VALID, ['data.answer="{gloss}"'])).data.answer).toBe("{gloss}");
    const [broken] = await issuesOf(VALID, ["data.answer={word} {gloss}"]);
    expect(broken).toMatch(/; quote it for YAML: --set 'data\.answer="\{word\} \{gloss\}"'$/);
  });

  it("and a map that the file itself has is not", async () => {
    const [issue] = await issuesOf(VALID.replace('"{gloss}"', "{gloss}"));
    expect(issue).toMatch(/data\.answer: must be a string, got a map$/);
  });
});

describe("lora.init_from", () => {
  it("leads from the config's folder to an adapter or a run, and from --set from where one is", async () => {
    await mkdir(join(folder, "before"));
    await writeFile(join(folder, "before", "adapter_config.json"), "{}");
    const text = VALID.replace("modules_to_save: [score]", "init_from: before");
    expect((await load(text)).lora.init_from).toBe(join(folder, "before"));
    const elsewhere = await issuesOf(text, ["lora.init_from=before"]);
    expect(elsewhere).toEqual([expect.stringMatching(/^--set lora\.init_from lora\.init_from: is neither a PEFT adapter/)]);
  });

  it("that leads nowhere is an issue at its place", async () => {
    const text = VALID.replace("modules_to_save: [score]", "init_from: gone");
    expect(await issuesOf(text)).toEqual([
      `6:54 lora.init_from: is neither a PEFT adapter (adapter_config.json) nor the directory of a run (run.json): ${join(folder, "gone")}`,
    ]);
  });
});

describe("loadConfig", () => {
  it("turns snake_case into camelCase, keeps PEFT's spelling inside lora, and fills every default", async () => {
    const config = await load(VALID);
    expect(config.model).toEqual({ nameOrPath: "prelort:tiny", task: "causal-lm", dtype: "f32", trustRemoteCode: false });
    expect(config.lora).toEqual({ r: 8, scale: 2, target_modules: "all-linear", modules_to_save: ["score"], lora_dropout: 0 });
    expect(config.strategy).toEqual({
      selection: { name: "all" },
      rankAssignment: { name: "tiered", shares: { 8: 0.25, 2: 0.75 } },
      aggregation: { name: "segment-wise", weights: "examples", minContributors: 1 },
    });
    expect(config.fit).toEqual({
      objective: "stratified",
      fullWeight: 0.9,
      localSteps: 10,
      batchSize: 16,
      gradientAccumulationSteps: 1,
      gradientCheckpointing: false,
      groupByLength: false,
      lr: 3e-4,
      maxGradNorm: 0,
      lrSchedule: "constant",
    });
    expect(config.data.partition).toEqual({ name: "iid" });
    expect(config.workers.beatTimeout).toBe(30);
  });

  it("reports every issue at once, in the order of reading, each where it stands", async () => {
    const issues = await issuesOf(`seed: 1.5
rounds: 0
strategy:
  selection: { name: randum }
  rank_assignment: { name: list, ranks: [16, 3] }
model: { name_or_path: prelort:tiny, task: sequence-classification }
lora:
  r: 8
  tiers: [2, 4]
  target_modules: [q_proj, 3]
data:
  path: prelort:words
  prompt: hm
  clients: 3
fit: { full_wieght: 0.5, lr: fast }
`);
    expect(issues).toEqual([
      "1:7 seed: must be a whole number, got 1.5",
      "2:9 rounds: must be at least 1, got 0",
      expect.stringMatching(/^4:22 strategy\.selection\.name: must be one of all, .*random, .*oort, got "randum"; did you mean random\?$/),
      "5:41 strategy.rank_assignment.ranks: must hold one rank for each of the 3 data.clients, got 2",
      "5:42 strategy.rank_assignment.ranks[0]: rank 16 is larger than lora.r (8)",
      "5:46 strategy.rank_assignment.ranks[1]: rank 3 is not among lora.tiers [2, 4]",
      "9:10 lora.tiers: must end with lora.r (8), got [2, 4]",
      "10:28 lora.target_modules[1]: must be a string, got 3",
      "11:1 data.text: is needed for model.task sequence-classification",
      "11:1 data.label: is needed for model.task sequence-classification",
      "13:11 data.prompt: does not go with model.task sequence-classification",
      "15:8 fit.full_wieght: is not a key; did you mean full_weight?",
      '15:30 fit.lr: must be a number, got "fast"',
    ]);
  });

  it.each<[title: string, line: string, expected: string | RegExp, assignment?: string]>([
    ["a key in camelCase", "fit: { fullWeight: 0.5 }", "12:8 fit.full_weight: fullWeight is not a key; did you mean full_weight?"],
    ["a key that is near no other", "zebra: 1", /^12:1 zebra: is not a key; may be name, runs_dir, seed, /],
    [
      "lora_alpha",
      "",
      "--set lora.lora_alpha lora.lora_alpha: is not a key: give scale instead (lora_alpha is scale · r, at every rank r)",
      "lora.lora_alpha=16",
    ],
    ["a device that is none", "workers: { devices: [cpu, gpu0] }", '12:27 workers.devices[1]: must be cpu, mps or cuda:N, got "gpu0"'],
    [
      "slots beside a number of workers",
      "workers: { count: 2, slots_per_device: 2 }",
      "12:40 workers.slots_per_device: does not go with workers.count, which is the number of workers in all: give one of the two",
    ],
    [
      "a device without a worker",
      "workers: { count: 1, devices: [cpu, cuda:0] }",
      "12:19 workers.count: must be at least 2, one worker for each of workers.devices, got 1",
    ],
    [
      "texts of one token",
      "",
      "--set data.max_length data.max_length: must be at least 2: no position tells a text's first token",
      "data.max_length=1",
    ],
    ["an empty value", "fit:", "12:5 fit: must be a map, got nothing"],
    ["a number that is not one", "fit: { lr: .nan }", "12:12 fit.lr: must be a number, got NaN"],
    ["a path out of the name", "name: ../x", "12:7 name: must be made of letters, digits, '.', '_' and '-', at most 100, got \"../x\""],
  ])("names %s", async (_, line, expected, assignment) => {
    const issues = await issuesOf(VALID + line, assignment === undefined ? [] : [assignment]);
    expect(issues).toHaveLength(1);
    expect(issues[0]).toEqual(expected instanceof RegExp ? expect.stringMatching(expected) : expected);
  });

  it.each([
    [
      "clients that the draw may leave without an example to train on",
      ["data.client_eval_examples=10", "data.partition={name: dirichlet, by: word, alpha: 1}"],
      "must be larger than the 10 examples that each client holds out, got 10",
    ],
    [
      "a learning rate for a head that is not there",
      ["lora={r: 8, target_modules: all-linear}", "fit.head_lr=0.1"],
      "has nothing to train: a causal-lm has no modules but those that lora.modules_to_save names",
    ],
    [
      "a base that would lose what is merged into it",
      ["model.dtype=bf16", "strategy.aggregation={name: flora}"],
      "does not go with the aggregation flora, which merges into the base: bf16 would lose most of a small change",
    ],
  ])("refuses %s", async (_, assignments, expected) => {
    const issues = await issuesOf(VALID, assignments);
    expect(issues).toEqual([expect.stringContaining(expected)]);
  });

  it.each<[title: string, assignment: string, expected: string | RegExp]>([
    [
      "shares that do not sum to 1",
      "strategy.rank_assignment.shares={8: 0.25, 2: 0.5}",
      "strategy.rank_assignment.shares: must sum to 1, got 0.75",
    ],
    [
      "a share of a rank above lora.r",
      "strategy.rank_assignment.shares={16: 1}",
      "strategy.rank_assignment.shares.16: rank 16 is larger than lora.r (8)",
    ],
    [
      "a share of what is no rank",
      "strategy.rank_assignment.shares={big: 1}",
      'strategy.rank_assignment.shares.big: must be a rank, got "big"',
    ],
    ["a share of no tier", "lora.tiers=[4, 8]", "strategy.rank_assignment.shares.2: rank 2 is not among lora.tiers [4, 8]"],
    ["tiers out of order", "lora.tiers=[8, 2, 8]", "lora.tiers: must ascend without repeats, got [8, 2, 8]"],
    ["fewer examples than clients", "data.max_examples=3", "data.max_examples: must be at least 4 (4 clients of at least 1 each), got 3"],
    ["a selection without its fraction", "strategy.selection.name=random", "strategy.selection.fraction: is needed: a number"],
    [
      "fewer candidates than train",
      "strategy.selection={name: power-of-choice, fraction: 0.5, candidates: 1}",
      "strategy.selection.candidates: must be from 2, the clients that train in a round, to 4, all clients, got 1",
    ],
    [
      "more candidates than clients",
      "strategy.selection={name: power-of-choice, fraction: 0.5, candidates: 5}",
      "strategy.selection.candidates: must be from 2, the clients that train in a round, to 4, all clients, got 5",
    ],
    [
      "a preferred speed without declared ones",
      "strategy.selection={name: oort, fraction: 0.5, preferred_speed: 2}",
      "data.profiles: is needed: the selection oort compares each client's speed with its preferred speed",
    ],
    [
      "ranks by profile without profiles",
      "strategy.rank_assignment={name: profile, memory_gib: {8: 12, 2: 4}}",
      "data.profiles: is needed: the rank assignment profile gives ranks by each client's memory",
    ],
    [
      "a profile that names no rank",
      "strategy.rank_assignment={name: profile, memory_gib: {}}",
      "strategy.rank_assignment.memory_gib: must name at least one rank",
    ],
    [
      "a distribution of no known shape",
      "strategy.rank_assignment={name: distribution, shape: bell}",
      'strategy.rank_assignment.shape: must be one of uniform, heavy-tail-light, heavy-tail-strong, normal, got "bell"',
    ],
    [
      "self-pruning ranks for other clients",
      "strategy.rank_assignment={name: self-pruning, ranks: [8, 2], penalty: 0.1}",
      "strategy.rank_assignment.ranks: must hold one rank for each of the 4 data.clients, got 2",
    ],
    [
      "profiles of other clients",
      "data.profiles=[{memory_gib: 8}, {speed: 1}]",
      "data.profiles: must hold one profile for each of the 4 data.clients, got 2",
    ],
    [
      "more contributors than clients",
      "strategy.aggregation={name: zero-pad-deltas, min_contributors: 5}",
      "strategy.aggregation.min_contributors: must be at most 4, the clients of a round, got 5",
    ],
    [
      "more malicious clients than multi-Krum bears",
      "strategy.aggregation={name: segment-wise, robust: {name: multi-krum, malicious: 1}}",
      "strategy.aggregation.robust: multi-krum with malicious 1 needs 5 clients in a round, of which there are 4",
    ],
    [
      "a share to trim of too few clients",
      "strategy.aggregation={name: segment-wise, robust: {name: trimmed-mean, trim: 0.2}}",
      "strategy.aggregation.robust: trimmed-mean with trim 0.2 needs 5 clients in a round, of which there are 4",
    ],
    [
      "half of the clients to trim",
      "strategy.aggregation={name: segment-wise, robust: {name: trimmed-mean, trim: 0.5}}",
      "strategy.aggregation.robust.trim: must be less than 0.5, got 0.5",
    ],
    [
      "a robust rule of an aggregation that has none",
      "strategy.aggregation={name: zero-pad-deltas, robust: {name: median}}",
      /^strategy\.aggregation\.robust: is not a key/,
    ],
    [
      "an update bound that the usual exceeds",
      "strategy.update_bound={factor: 1}",
      "strategy.update_bound.factor: must be more than 1, got 1",
    ],
  ])("refuses %s", async (_, assignment, expected) => {
    const issues = await issuesOf(VALID, [assignment]);
    const told = expected instanceof RegExp ? expect.stringMatching(expected) : expected;
    expect(issues.map((issue) => issue.replace(/^(--set \S+|\d+:\d+) /, ""))).toEqual([told]);
  });

  it("counts for a robust rule the clients that a selection takes, where that is known", async () => {
    const median = "strategy.aggregation={name: segment-wise, robust: {name: median}}";
    await load(VALID, [median, "strategy.selection={name: random, fraction: 0.75}"]);
    for (const selection of ["{name: random, fraction: 0.5}", "{name: list, clients: [c00, c01]}"]) {
      expect(await issuesOf(VALID, [median, `strategy.selection=${selection}`])).toEqual([
        "--set strategy.aggregation strategy.aggregation.robust: median needs 3 clients in a round, of which there are 2",
      ]);
    }
  });

  it("names every profile that lacks what a policy needs, at once", async () => {
    const text = `${VALID}  profiles: [{ memory_gib: 24, speed: 2 }, { speed: 2 }, { memory_gib: 1 }, { memory_gib: 4, speed: 1 }]\n`;
    const ranks = "strategy.rank_assignment={name: profile, memory_gib: {16: 20, 2: 4}}";
    const selection = "strategy.selection={name: oort, fraction: 0.5, preferred_speed: 2}";
    expect(await issuesOf(text, [ranks, selection])).toEqual([
      "12:44 data.profiles[1].memory_gib: is needed: the rank assignment profile gives ranks by it",
      "12:58 data.profiles[2].speed: is needed: the selection oort compares it with its preferred speed",
      "12:72 data.profiles[2].memory_gib: must be at least 4, which the smallest rank of the rank assignment needs, got 1",
      "--set strategy.rank_assignment strategy.rank_assignment.memory_gib.16: rank 16 is larger than lora.r (8)",
    ]);
  });

  it("refuses fewer examples than a Dirichlet partition must give out", async () => {
    const partition = "data.partition={name: dirichlet, by: topic, alpha: 0.5, min_examples: 20}";
    expect(await issuesOf(VALID, [partition, "data.max_examples=79"])).toEqual([
      "--set data.max_examples data.max_examples: must be at least 80 (4 clients of at least 20 each), got 79",
    ]);
  });

  it.each([
    ["syntax that is wrong", "a: [1\nb: 2", /^2:1 config: Flow sequence/],
    ["a key twice", "seed: 1\nseed: 2", /^2:1 config: Map keys must be unique/],
    ["a list", "- 1", /^1:1 config: must hold a map of keys/],
    ["nothing", "", /^1:1 config: must hold a map of keys/],
    ["two documents", "seed: 1\n---\nseed: 2", /^2:1 config: Source contains multiple documents/],
    ["an alias", "seed: &s 1\nrounds: *s", /^2:9 rounds: write out what \*s stands for/],
    ["an unknown tag", "seed: !!secret 1", /^1:7 config: Unresolved tag/],
  ])("refuses a file that holds %s", async (_, text, expected) => {
    const issues = await issuesOf(text);
    expect(issues).toEqual([expect.stringMatching(expected)]);
  });

  it.each([
    [
      "model.task=causl-lm",
      "model.task: must be one of causal-lm, seq2seq-lm, sequence-classification, image-classification or a task of your own as module:Class, " +
        'got "causl-lm"; did you mean causal-lm?',
    ],
    ["model.dtype=fp32", 'model.dtype: must be one of f32, bf16, got "fp32"; did you mean f32?'],
    ["workers.devices=atuo", 'workers.devices: must be auto or a list, got "atuo"; did you mean auto?'],
    ["workers.devices=[gpu]", 'workers.devices[0]: must be cpu, mps or cuda:N, got "gpu"'],
    [
      "strategy.aggregation.name=segmentwise",
      /^strategy\.aggregation\.name: must be one of segment-wise, .*hlora, got "segmentwise"; did you mean segment-wise\?$/,
    ],
    ["data.partition.name=dirichelt", /^data\.partition\.name: must be one of iid, .*, got "dirichelt"; did you mean dirichlet\?$/],
    ["model.task=zebra", /as module:Class, got "zebra"$/],
  ])("names the words that %s may be, and the one that was meant", async (assignment, expected) => {
    const [issue] = await issuesOf(VALID, [assignment]);
    expect(issue?.replace(/^--set \S+ /, "")).toEqual(typeof expected === "string" ? expected : expect.stringMatching(expected));
  });

  it("names a file that is not there", async () => {
    await expect(loadConfig(join(folder, "none.yaml"))).rejects.toThrow(/none\.yaml {2}config: there is no such file/);
  });

  it("lets a key called __proto__ be just another unknown key", async () => {
    expect(await issuesOf(`${VALID}__proto__: { rounds: 1 }`)).toEqual([expect.stringMatching(/^12:1 __proto__: is not a key/)]);
  });
});

describe("--set", () => {
  it("wins over the file, reads values as YAML, makes maps on the way, and reaches into lists", async () => {
    const config = await load(VALID.replace("tiered, shares: { 8: 0.25, 2: 0.75 }", "list, ranks: [8, 2, 2, 2]"), [
      "fit.lr=1.0e-2",
      "fit.full_weight=null",
      "workers.devices=[cpu, 'cuda:1']",
      "strategy.rank_assignment.ranks.1=4",
      "data.prompt=a=b",
      "rounds=5",
      "rounds=6",
    ]);
    expect(config.fit).toMatchObject({ lr: 0.01, fullWeight: null });
    expect(config.workers.devices).toEqual(["cpu", "cuda:1"]);
    expect(config.strategy.rankAssignment).toEqual({ name: "list", ranks: [8, 4, 2, 2] });
    expect(config.data.prompt).toBe("a=b");
    expect(config.rounds).toBe(6);
  });

  it.each([
    ["fit.wrong=1", /^--set fit\.wrong fit\.wrong: is not a key; may be objective, /],
    ["fits.lr=1", /^--set fits\.lr fits: is not a key; did you mean fit\?$/],
    ["fit.batchSize=1", /^--set fit\.batchSize fit\.batch_size: batchSize is not a key; did you mean batch_size\?$/],
    ["fit.lr=fast", /^--set fit\.lr fit\.lr: must be a number, got "fast"$/],
    ["seed.x=1", /^--set seed\.x seed\.x: leads nowhere/],
    ["fit.lr", /^--set fit\.lr fit\.lr: must read key\.path=value, got "fit\.lr"$/],
    ["fit.lr=[", /^--set fit\.lr fit\.lr: Flow sequence/],
    ["model.quantisation=", /^--set model\.quantisation model\.quantisation: is not a key; did you mean quantization\?$/],
    ["fits.lr=", /^--set fits\.lr fits: is not a key; did you mean fit\?$/],
    ["fit.localStep=", /^--set fit\.localStep fit\.local_step: localStep is not a key/],
    ["rounds=", /^--set rounds rounds: is needed: a number$/],
    ["seed.x=", /^--set seed\.x seed\.x: leads nowhere/],
    ["lora.modules_to_save.0=", /^--set lora\.modules_to_save\.0 lora\.modules_to_save\.0: leads nowhere/],
  ])("refuses %s and says so", async (assignment, expected) => {
    expect(await issuesOf(VALID, [assignment])).toEqual([expect.stringMatching(expected)]);
  });
});

describe("paths in a config", () => {
  it("are relative to its folder; hub names and prelort: names stay", async () => {
    await writeFile(join(folder, "words.jsonl"), "{}\n");
    await mkdir(join(folder, "model"));
    const local = await load(VALID.replace("prelort:words", "./words.jsonl").replace("prelort:tiny", "model"));
    expect(local.data.path).toBe(join(folder, "words.jsonl"));
    expect(local.model.nameOrPath).toBe(join(folder, "model"));
    const hub = await load(VALID.replace("prelort:tiny", "HuggingFaceTB/SmolLM2-135M"));
    expect(hub.model.nameOrPath).toBe("HuggingFaceTB/SmolLM2-135M");
    expect(hub.data.path).toBe("prelort:words");
  });

  it("are relative to the working directory in --set", async () => {
    const config = await load(VALID, ["data.path=package.json"]);
    expect(config.data.path).toBe(join(process.cwd(), "package.json"));
  });

  it("are issues when they lead nowhere", async () => {
    expect(await issuesOf(VALID.replace("prelort:words", "words.jsonl").replace("prelort:tiny", "./model"))).toEqual([
      `5:24 model.name_or_path: is no folder, and cannot be a name on the hub: ${join(folder, "model")}`,
      `8:9 data.path: there is no such file or folder, and it cannot be the name of a dataset on the hub: ${join(folder, "words.jsonl")}`,
    ]);
  });
});

describe("--set key=", () => {
  it("takes away a key, so that its default holds", async () => {
    const written = VALID.replace("name_or_path: prelort:tiny", "name_or_path: prelort:tiny, attention: eager");
    expect((await load(written, ["model.attention="])).model.attention).toBeUndefined();
    expect((await load(VALID.replace("rounds: 6", "rounds: 6\nseed: 3"), ["seed="])).seed).toBe(0);
  });

  it("is content with a key that is not there, as deep as it may be", async () => {
    const asItIs = await load(VALID);
    expect(await load(VALID, ["model.attention=", "evaluate.every=", "strategy.server_optimizer.lr="])).toEqual(asItIs);
  });
});
