import { mkdtemp, mkdir, rm, writeFile } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { loadConfig } from "../../../src/config/load.ts";
import type { ConfigIssue } from "../../../src/errors.ts";
import { argumentIssue, issue, issuesOf } from "../../support/config-issues.ts";

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

/** Located at `line:col` of the file or at `--set key`. */
async function issuesIn(text: string, set: readonly string[] = []): Promise<readonly ConfigIssue[]> {
  await writeFile(file, text);
  const issues = await issuesOf(() => loadConfig(file, { set }));
  return issues.map((found) => ({ ...found, location: String(found.location).replace(`${file}:`, "") }));
}

async function load(text: string, set: readonly string[] = []) {
  await writeFile(file, text);
  return loadConfig(file, { set });
}

describe("a template given by --set", () => {
  it("a template in --set that YAML reads as a map is refused with its quoted form", async () => {
    expect(await issuesIn(VALID, ["data.answer={gloss}"])).toEqual([
      issue("data.answer", ["map", `--set 'data.answer="{gloss}"'`], "--set data.answer"),
    ]);
    expect((await load(VALID, ['data.answer="{gloss}"'])).data.answer).toBe("{gloss}");
    const [broken] = await issuesIn(VALID, ["data.answer={word} {gloss}"]);
    expect(broken?.message).toContain(`--set 'data.answer="{word} {gloss}"'`);
  });

  it("is quoted for --set only, not where the file itself has a map", async () => {
    const [found] = await issuesIn(VALID.replace('"{gloss}"', "{gloss}"));
    expect(found).toEqual(issue("data.answer", ["map"], "10:11"));
    expect(found?.message).not.toContain("--set");
  });
});

describe("lora.init_from", () => {
  it("is relative to the config's folder, and in --set to the working directory", async () => {
    await mkdir(join(folder, "before"));
    await writeFile(join(folder, "before", "adapter_config.json"), "{}");
    const text = VALID.replace("modules_to_save: [score]", "init_from: before");
    expect((await load(text)).lora.init_from).toBe(join(folder, "before"));
    expect(await issuesIn(text, ["lora.init_from=before"])).toEqual([
      issue("lora.init_from", [join(process.cwd(), "before")], "--set lora.init_from"),
    ]);
  });

  it("is refused where it holds neither an adapter nor a run", async () => {
    const text = VALID.replace("modules_to_save: [score]", "init_from: gone");
    expect(await issuesIn(text)).toEqual([issue("lora.init_from", ["adapter_config.json", "run.json", join(folder, "gone")], "6:54")]);
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
      optimizer: { name: "adamw", betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0 },
      clientState: "new",
      lr: 3e-4,
      lrBRatio: 1,
      maxGradNorm: 0,
      actingTail: 0,
      lrSchedule: "constant",
      minLr: 0,
      warmupRounds: 0,
      warmupSteps: 0,
      labelSmoothing: 0,
      neftuneAlpha: 0,
      proximalMu: 0,
    });
    expect(config.data.partition).toEqual({ name: "iid" });
    expect(config.workers.beatTimeout).toBe(30);
  });

  it("reports every issue at once, in the order of reading, each where it stands", async () => {
    const issues = await issuesIn(`seed: 1.5
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
    const task = "sequence-classification";
    expect(issues).toEqual([
      issue("seed", [1.5], "1:7"),
      issue("rounds", [1, 0], "2:9"),
      issue("strategy.selection.name", ["all", "random", "oort", '"randum"', "random"], "4:22"),
      issue("strategy.rank_assignment.ranks", [3, "data.clients", 2], "5:41"),
      issue("strategy.rank_assignment.ranks[0]", [16, "lora.r", 8], "5:42"),
      issue("strategy.rank_assignment.ranks[1]", [3, "lora.tiers", "[2, 4]"], "5:46"),
      issue("lora.tiers", ["lora.r", 8, "[2, 4]"], "9:10"),
      issue("lora.target_modules[1]", ["string", 3], "10:28"),
      issue("data.text", [task], "11:1"),
      issue("data.label", [task], "11:1"),
      issue("data.prompt", [task], "13:11"),
      issue("fit.full_wieght", ["full_weight"], "15:8"),
      issue("fit.lr", ["number", '"fast"'], "15:30"),
    ]);
  });

  it.each<[title: string, line: string, expected: ConfigIssue, assignment?: string]>([
    ["a key in camelCase", "fit: { fullWeight: 0.5 }", issue("fit.full_weight", ["fullWeight", "full_weight"], "12:8")],
    ["a key that is near no other", "zebra: 1", issue("zebra", ["name", "runs_dir", "seed"], "12:1")],
    ["lora_alpha", "", issue("lora.lora_alpha", ["lora.scale", "lora_alpha"], "--set lora.lora_alpha"), "lora.lora_alpha=16"],
    ["an invalid device", "workers: { devices: [cpu, gpu0] }", issue("workers.devices[1]", ["cpu", "mps", "cuda:N", '"gpu0"'], "12:27")],
    [
      "slots beside a number of workers",
      "workers: { count: 2, slots_per_device: 2 }",
      issue("workers.slots_per_device", ["workers.count"], "12:40"),
    ],
    [
      "a device without a worker",
      "workers: { count: 1, devices: [cpu, cuda:0] }",
      issue("workers.count", [2, "workers.devices", 1], "12:19"),
    ],
    ["an address without tcp", "workers: { host: 10.0.0.5 }", issue("workers.host", ["workers.transport", "tcp"], "12:18")],
    ["ports without tcp", "workers: { ports: [1, 2] }", issue("workers.ports", ["workers.transport", "tcp"], "12:19")],
    [
      "every address, where workers cannot know which to connect to",
      "workers: { transport: tcp, host: 0.0.0.0 }",
      issue("workers.host", ["workers.advertise"], "12:34"),
    ],
    ["ports in the wrong order", "workers: { transport: tcp, ports: [9, 8] }", issue("workers.ports", ["[9, 8]"], "12:35")],
    ["a port that cannot exist", "workers: { transport: tcp, ports: [9, 65536] }", issue("workers.ports[1]", [65535, 65536], "12:39")],
    [
      "a command with devices that nobody listed",
      "workers: { transport: tcp, command: [nice] }",
      issue("workers.command", ["workers.devices", "[cuda:0]"], "12:37"),
    ],
    [
      "a command for hosts that nobody listed",
      "workers: { transport: tcp, devices: [cpu], command: [ssh, '{host}'] }",
      issue("workers.command", ["{host}", "workers.hosts"], "12:53"),
    ],
    [
      "hosts that the command does not name",
      "workers: { transport: tcp, devices: [cpu], command: [srun], hosts: [a] }",
      issue("workers.hosts", ["{host}", "workers.command"], "12:68"),
    ],
    ["texts of one token", "", issue("data.max_length", [2, 1], "--set data.max_length"), "data.max_length=1"],
    ["an empty value", "fit:", issue("fit", ["map", "nothing"], "12:5")],
    ["an empty list", "workers: { devices: [] }", issue("workers.devices", ["empty list"], "12:21")],
    ["a number that is not one", "fit: { lr: .nan }", issue("fit.lr", ["number", "NaN"], "12:12")],
    ["a name that leads out of the runs folder", "name: ../x", issue("name", [100, '"../x"'], "12:7")],
  ])("names %s", async (_, line, expected, assignment) => {
    expect(await issuesIn(VALID + line, assignment === undefined ? [] : [assignment])).toEqual([expected]);
  });

  it.each([
    [
      "clients that the draw may leave without an example to train on",
      ["data.client_eval_examples=10", "data.partition={name: dirichlet, by: word, alpha: 1}"],
      issue("data.partition.min_examples", [10, 10], "--set data.partition"),
    ],
    [
      "a learning rate for a head that does not exist",
      ["lora={r: 8, target_modules: all-linear}", "fit.head_lr=0.1"],
      issue("fit.head_lr", ["causal-lm", "lora.modules_to_save"], "--set fit.head_lr"),
    ],
    [
      "a base that would lose what is merged into it",
      ["model.dtype=bf16", "strategy.aggregation={name: flora}"],
      issue("model.dtype", ["flora", "bf16"], "--set model.dtype"),
    ],
  ])("refuses %s", async (_, assignments, expected) => {
    expect(await issuesIn(VALID, assignments)).toEqual([expected]);
  });

  const tiers = "strategy.rank_assignment";
  it.each<[title: string, assignment: string, expected: ConfigIssue]>([
    ["shares that do not sum to 1", `${tiers}.shares={8: 0.25, 2: 0.5}`, issue(`${tiers}.shares`, [1, 0.75])],
    ["a share of a rank above lora.r", `${tiers}.shares={16: 1}`, issue(`${tiers}.shares.16`, [16, "lora.r", 8])],
    ["a share of an invalid rank", `${tiers}.shares={big: 1}`, issue(`${tiers}.shares.big`, ["rank", '"big"'])],
    ["a share of a rank that is not a tier", "lora.tiers=[4, 8]", issue(`${tiers}.shares.2`, [2, "lora.tiers", "[4, 8]"])],
    ["tiers out of order", "lora.tiers=[8, 2, 8]", issue("lora.tiers", ["[8, 2, 8]"])],
    ["fewer examples than clients", "data.max_examples=3", issue("data.max_examples", [4, 4, 1, 3])],
    ["a selection without its fraction", "strategy.selection.name=random", issue("strategy.selection.fraction", ["number"])],
    [
      "fewer candidates than train",
      "strategy.selection={name: power-of-choice, fraction: 0.5, candidates: 1}",
      issue("strategy.selection.candidates", [2, 4, 1]),
    ],
    [
      "more candidates than clients",
      "strategy.selection={name: power-of-choice, fraction: 0.5, candidates: 5}",
      issue("strategy.selection.candidates", [2, 4, 5]),
    ],
    [
      "a preferred speed without declared ones",
      "strategy.selection={name: oort, fraction: 0.5, preferred_speed: 2}",
      issue("data.profiles", ["oort", "speed"]),
    ],
    ["ranks by profile without profiles", `${tiers}={name: profile, memory_gib: {8: 12, 2: 4}}`, issue("data.profiles", ["memory"])],
    ["a profile that names no rank", `${tiers}={name: profile, memory_gib: {}}`, issue(`${tiers}.memory_gib`, ["rank"])],
    [
      "a distribution of unknown shape",
      `${tiers}={name: distribution, shape: bell}`,
      issue(`${tiers}.shape`, ["uniform", "heavy-tail-light", "heavy-tail-strong", "normal", '"bell"']),
    ],
    [
      "self-pruning ranks for other clients",
      `${tiers}={name: self-pruning, ranks: [8, 2], penalty: 0.1}`,
      issue(`${tiers}.ranks`, [4, "data.clients", 2]),
    ],
    ["flash attention in f32", "model.attention=flash_attention_2", issue("model.dtype", ["bf16", "flash_attention_2"])],
    ["profiles of other clients", "data.profiles=[{memory_gib: 8}, {speed: 1}]", issue("data.profiles", [4, "data.clients", 2])],
    [
      "more contributors than clients",
      "strategy.aggregation={name: zero-pad-deltas, min_contributors: 5}",
      issue("strategy.aggregation.min_contributors", [4, 5]),
    ],
    [
      "more malicious clients than multi-Krum can withstand",
      "strategy.aggregation={name: segment-wise, robust: {name: multi-krum, malicious: 1}}",
      issue("strategy.aggregation.robust", ["multi-krum", "malicious", 1, 5, 4]),
    ],
    [
      "a share to trim of too few clients",
      "strategy.aggregation={name: segment-wise, robust: {name: trimmed-mean, trim: 0.2}}",
      issue("strategy.aggregation.robust", ["trimmed-mean", "trim", 0.2, 5, 4]),
    ],
    [
      "half of the clients to trim",
      "strategy.aggregation={name: segment-wise, robust: {name: trimmed-mean, trim: 0.5}}",
      issue("strategy.aggregation.robust.trim", ["less", 0.5, 0.5]),
    ],
    [
      "a robust rule of an aggregation that has none",
      "strategy.aggregation={name: zero-pad-deltas, robust: {name: median}}",
      issue("strategy.aggregation.robust", ["name", "min_contributors"]),
    ],
    [
      "an update bound that ordinary updates exceed",
      "strategy.update_bound={factor: 1}",
      issue("strategy.update_bound.factor", ["more", 1, 1]),
    ],
  ])("refuses %s", async (_, assignment, expected) => {
    const issues = await issuesIn(VALID, [assignment]);
    expect(issues.map(({ path, message }) => ({ path, message }))).toEqual([expected]);
  });

  it("counts for a robust rule the clients that a selection takes, where that is known", async () => {
    const median = "strategy.aggregation={name: segment-wise, robust: {name: median}}";
    await load(VALID, [median, "strategy.selection={name: random, fraction: 0.75}"]);
    for (const selection of ["{name: random, fraction: 0.5}", "{name: list, clients: [c00, c01]}"]) {
      expect(await issuesIn(VALID, [median, `strategy.selection=${selection}`])).toEqual([
        issue("strategy.aggregation.robust", ["median", 3, 2], "--set strategy.aggregation"),
      ]);
    }
  });

  it("names every profile that lacks what a policy needs, at once", async () => {
    const text = `${VALID}  profiles: [{ memory_gib: 24, speed: 2 }, { speed: 2 }, { memory_gib: 1 }, { memory_gib: 4, speed: 1 }]\n`;
    const ranks = "strategy.rank_assignment={name: profile, memory_gib: {16: 20, 2: 4}}";
    const selection = "strategy.selection={name: oort, fraction: 0.5, preferred_speed: 2}";
    expect(await issuesIn(text, [ranks, selection])).toEqual([
      issue("data.profiles[1].memory_gib", ["profile"], "12:44"),
      issue("data.profiles[2].speed", ["oort"], "12:58"),
      issue("data.profiles[2].memory_gib", [4, 1], "12:72"),
      issue("strategy.rank_assignment.memory_gib.16", [16, "lora.r", 8], "--set strategy.rank_assignment"),
    ]);
  });

  it("refuses fewer examples than a Dirichlet partition must give out", async () => {
    const partition = "data.partition={name: dirichlet, by: topic, alpha: 0.5, min_examples: 20}";
    expect(await issuesIn(VALID, [partition, "data.max_examples=79"])).toEqual([
      issue("data.max_examples", [80, 4, 20, 79], "--set data.max_examples"),
    ]);
  });

  it.each([
    ["invalid syntax", "a: [1\nb: 2", issue("config", [], "2:1")],
    ["a key twice", "seed: 1\nseed: 2", issue("config", ["unique"], "2:1")],
    ["a list", "- 1", issue("config", ["map"], "1:1")],
    ["nothing", "", issue("config", ["map"], "1:1")],
    ["two documents", "seed: 1\n---\nseed: 2", issue("config", ["multiple documents"], "2:1")],
    ["an alias", "seed: &s 1\nrounds: *s", issue("rounds", ["*s"], "2:9")],
    ["an unknown tag", "seed: !!secret 1", issue("config", ["secret"], "1:7")],
  ])("refuses a file that holds %s", async (_, text, expected) => {
    expect(await issuesIn(text)).toEqual([expected]);
  });

  it.each<[assignment: string, words: readonly string[], got: string, meant: string | undefined]>([
    [
      "model.task=causl-lm",
      ["causal-lm", "seq2seq-lm", "sequence-classification", "image-classification", "module:Class"],
      '"causl-lm"',
      "causal-lm",
    ],
    ["model.dtype=fp32", ["f32", "bf16"], '"fp32"', "f32"],
    ["workers.devices=atuo", ["auto"], '"atuo"', "auto"],
    ["strategy.aggregation.name=segmentwise", ["segment-wise", "hlora"], '"segmentwise"', "segment-wise"],
    ["data.partition.name=dirichelt", ["iid", "dirichlet"], '"dirichelt"', "dirichlet"],
    ["model.task=zebra", ["module:Class"], '"zebra"', undefined],
  ])("names the words that %s may be, and the one that was meant", async (assignment, words, got, meant) => {
    const key = assignment.replace(/=.*/, "");
    const [found] = await issuesIn(VALID, [assignment]);
    expect(found).toEqual(issue(key, [...words, got, ...(meant === undefined ? [] : [meant])], `--set ${key}`));
    expect(found?.message.includes("?")).toBe(meant !== undefined);
  });

  it("names a file that does not exist", async () => {
    const missing = join(folder, "none.yaml");
    expect(await issuesOf(() => loadConfig(missing))).toEqual([argumentIssue("config", ["no such file"], missing)]);
  });

  it("treats __proto__ like any other unknown key", async () => {
    expect(await issuesIn(`${VALID}__proto__: { rounds: 1 }`)).toEqual([issue("__proto__", ["name", "runs_dir"], "12:1")]);
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
    ["fit.wrong=1", issue("fit.wrong", ["objective"])],
    ["fits.lr=1", issue("fits", ["fit"])],
    ["fit.batchSize=1", issue("fit.batch_size", ["batchSize", "batch_size"])],
    ["fit.lr=fast", issue("fit.lr", ["number", '"fast"'])],
    ["seed.x=1", issue("seed.x", ["map"])],
    ["fit.lr", issue("fit.lr", ["key.path=value", '"fit.lr"'])],
    ["fit.lr=[", issue("fit.lr")],
    ["model.quantisation=", issue("model.quantisation", ["quantization"])],
    ["fits.lr=", issue("fits", ["fit"])],
    ["fit.localStep=", issue("fit.local_step", ["localStep"])],
    ["rounds=", issue("rounds", ["number"])],
    ["seed.x=", issue("seed.x", ["map"])],
    ["lora.modules_to_save.0=", issue("lora.modules_to_save.0", ["list"])],
  ])("refuses %s", async (assignment, expected) => {
    const location = `--set ${assignment.replace(/=.*/, "")}`;
    expect(await issuesIn(VALID, [assignment])).toEqual([{ ...expected, location }]);
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

  it("are issues when there is nothing at them", async () => {
    expect(await issuesIn(VALID.replace("prelort:words", "words.jsonl").replace("prelort:tiny", "./model"))).toEqual([
      issue("model.name_or_path", [join(folder, "model")], "5:24"),
      issue("data.path", [join(folder, "words.jsonl")], "8:9"),
    ]);
  });

  it.each([
    ["that begins with a dot", "./my-mdoel", "my-mdoel", "./my-model"],
    ["inside a folder that exists", "models/my-mdoel", "models/my-mdoel", "models/my-model"],
    ["with a slash at its end", "models/my-mdoel/", "models/my-mdoel", "models/my-model"],
    ["that is near no other", "models/zebra", "models/zebra", undefined],
    ["near the name of a file", "models/note.txt", "models/note.txt", undefined],
  ])("a model folder that does not exist, %s, is refused while loading, with the name that was meant", async (_, written, path, meant) => {
    await mkdir(join(folder, "my-model"));
    await mkdir(join(folder, "models/my-model"), { recursive: true });
    await writeFile(join(folder, "models/notes.txt"), "");
    const [refused, ...others] = await issuesIn(VALID.replace("prelort:tiny", written));
    expect(others).toEqual([]);
    expect(refused).toEqual(issue("model.name_or_path", [join(folder, path)], "5:24"));
    expect(/did you mean (.*)\?$/.exec(refused!.message)?.[1]).toBe(meant);
  });

  it("a model folder that does not exist is refused in --set, too", async () => {
    const [refused] = await issuesIn(VALID, ["model.name_or_path=configs/new-tsak"]);
    const absolute = join(process.cwd(), "configs/new-tsak");
    expect(refused).toEqual(issue("model.name_or_path", [absolute], "--set model.name_or_path"));
    expect(refused?.message).toContain("configs/new-task");
  });

  it("a model on the hub whose owner is also a folder here is named with its revision", async () => {
    await mkdir(join(folder, "some-org/model-a"), { recursive: true });
    const named = VALID.replace("name_or_path: prelort:tiny", "name_or_path: some-org/model-b, revision: main");
    expect((await load(named)).model.nameOrPath).toBe("some-org/model-b");
    const [refused] = await issuesIn(VALID.replace("prelort:tiny", "some-org/model-b"));
    expect(refused?.message).toContain("model.revision");
  });

  it("a model folder that begins with ~ is refused with the whole path to write", async () => {
    const [refused] = await issuesIn(VALID.replace("prelort:tiny", "~/my-model"));
    expect(refused).toEqual(issue("model.name_or_path", [join(homedir(), "my-model")], "5:24"));
  });

  it("a name with or without an owner is a name on the hub, even one near a folder", async () => {
    await mkdir(join(folder, "my-model"));
    for (const name of ["my-mdoel", "my-modle/my-model"]) {
      expect((await load(VALID.replace("prelort:tiny", name))).model.nameOrPath).toBe(name);
    }
  });
});

describe("--set key=", () => {
  it("removes a key, so that its default applies", async () => {
    const written = VALID.replace("name_or_path: prelort:tiny", "name_or_path: prelort:tiny, attention: eager");
    expect((await load(written, ["model.attention="])).model.attention).toBeUndefined();
    expect((await load(VALID.replace("rounds: 6", "rounds: 6\nseed: 3"), ["seed="])).seed).toBe(0);
  });

  it("accepts a key that is not set, at any depth", async () => {
    const asItIs = await load(VALID);
    expect(await load(VALID, ["model.attention=", "evaluate.every=", "strategy.server_optimizer.lr="])).toEqual(asItIs);
  });
});
