import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadConfig } from "../../../src/config/load.ts";
import { optionHere, OPTIONS_ELSEWHERE, VALUES_ELSEWHERE } from "../../../src/config/names-elsewhere.ts";
import { homesOf, toYamlSchema } from "../../../src/config/reference/json-schema.ts";
import { fileSchema } from "../../../src/config/schema.ts";
import { issue, issuesOf } from "../../support/config-issues.ts";

const VALID = `rounds: 3
model: { name_or_path: tiny, task: causal-lm }
lora: { r: 8, target_modules: all-linear }
data: { path: words.jsonl, text: "{gloss}", clients: 2 }
strategy: { rank_assignment: { name: list, ranks: [8, 2] } }
`;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "prelort-elsewhere-"));
  await writeFile(path.join(folder, "words.jsonl"), "{}\n");
});
afterAll(() => rm(folder, { recursive: true }));

async function load(text: string, set: readonly string[] = []) {
  const file = path.join(folder, "run.yaml");
  await writeFile(file, text);
  return loadConfig(file, { set });
}

async function issuesIn(text: string) {
  const issues = await issuesOf(() => load(text));
  return issues.map((found) => ({ ...found, location: String(found.location).replace(/^.*run\.yaml:/, "") }));
}

describe("what other tools call an option", () => {
  const schema = toYamlSchema(fileSchema, "a run");
  const parts = [...OPTIONS_ELSEWHERE, ...VALUES_ELSEWHERE].flatMap(({ here }) => here.split(/ and | or | with /));

  it.each(parts)("%s is a key here", (part) => {
    const [at = "", value = ""] = part.split(/: (.*)/);
    const homes = (key: string) => homesOf(schema, key).map((home) => home.join("."));
    expect(homes(at.split(".").at(-1) ?? "")).toContain(at);
    const keys = /^\{ ([\w, ]+) \}$/.exec(value)?.[1]?.split(", ") ?? [];
    for (const key of keys) expect(homes(key)).toContain(`${at}.${key}`);
  });

  it.each(parts.filter((part) => part.includes(": ") && !/[{,] (\w+)(,| \})/.test(part)))("%s is a value here", async (part) => {
    const [at = "", value = ""] = part.split(/: (.*)/);
    await expect(load(VALID, [`${at}=${value}`])).resolves.toBeDefined();
  });

  it("is answered with what it is here, in whatever section and spelling it is written", async () => {
    const text = `${VALID}learning_rate: 1e-4
fit: { weight_decay: 0.1, warmupRatio: 0.1, lr_schedule: cosine_with_min_lr, optimizer: adamw_torch, min_lr: 1 }
`.replace("all-linear }", "all-linear, lora_alpha: 16 }");
    expect(await issuesIn(text)).toEqual([
      issue("lora.lora_alpha", ["here it is lora.scale. lora_alpha is scale · r"], "3:43"),
      issue("learning_rate", ["is not a key; here it is fit.lr"], "6:1"),
      issue("fit.weight_decay", ["here it is fit.optimizer: { name: adamw, weight_decay }"], "7:8"),
      issue("fit.warmup_ratio", ["here it is fit.warmup_rounds or fit.warmup_steps"], "7:27"),
      issue("fit.lr_schedule", ["linear", "here it is fit.lr_schedule: cosine with fit.min_lr"], "7:58"),
      issue("fit.optimizer", ["here it is fit.optimizer: adamw"], "7:89"),
      // Told beside the others, though the schedule is wrong too.
      issue("fit.min_lr", ["fit.lr", "got", 1], "7:110"),
    ]);
  });

  it.each([
    ["loraplus_lr_ratio", "fit.lr_b_ratio"],
    ["label_smoothing_factor", "fit.label_smoothing"],
    ["neftune_noise_alpha", "fit.neftune_alpha"],
    ["mu", "fit.proximal_mu"],
    ["save_total_limit", "keep_rounds"],
    ["num_server_rounds", "rounds"],
    ["max_steps", "fit.local_steps"],
  ])("%s is %s", (name, here) => {
    expect(optionHere(name)?.split(". ")[0]).toBe(here);
  });

  it("is answered where it is a key, too", async () => {
    expect(await issuesIn(`${VALID}fit: { FedProx: 0.1 }\n`)).toEqual([issue("fit.FedProx", ["here it is fit.proximal_mu"], "6:8")]);
  });

  it("is not taken for it within a policy, which has options of its own", async () => {
    const text = VALID.replace("ranks:", "rank:").replace(
      "strategy: {",
      "strategy: { server_optimizer: { name: adam, learning_rate: 1, mu: 1 },",
    );
    const [rate, mu, , ranks] = await issuesIn(text);
    expect(rate).toEqual(issue("strategy.server_optimizer.learning_rate", ["the keys are name, lr"], "5:45"));
    expect(mu).toEqual(issue("strategy.server_optimizer.mu", ["is not a key"], "5:63"));
    expect(ranks).toEqual(issue("strategy.rank_assignment.rank", ["did you mean ranks"], "5:103"));
    for (const { message } of [rate!, mu!, ranks!]) expect(message).not.toMatch(/fit\.|lora\./);
    expect(await issuesIn(`${VALID}fit: { optimizer: { name: adamw, adam_beta1: 0.9 } }\n`)).toEqual([
      issue("fit.optimizer.adam_beta1", ["here it is fit.optimizer: { name: adamw, betas, eps }"], "6:34"),
    ]);
  });

  it("is answered for the strategies of Flower", async () => {
    const text = VALID.replace("strategy: {", "strategy: { server_optimizer: FedAdam, aggregation: fed-avg,");
    expect(await issuesIn(text)).toEqual([
      issue("strategy.server_optimizer", ["here it is strategy.server_optimizer: { name: adam }"], "5:31"),
      issue("strategy.aggregation", ["here it is strategy.aggregation: { name: segment-wise }"], "5:53"),
    ]);
    const whole = VALID.replace(/strategy: .*/, "strategy: FedAvgM");
    expect(await issuesIn(whole)).toEqual([
      issue("strategy", ["prelort", "FedAvgM", "here it is strategy.server_optimizer: { name: momentum }"], "5:11"),
    ]);
    const named = VALID.replace("strategy: {", "strategy: { server_optimizer: { name: fedyogi },");
    expect(await issuesIn(named)).toEqual([
      issue("strategy.server_optimizer.name", ["here it is strategy.server_optimizer: { name: yogi }"], "5:39"),
    ]);
  });
});

describe("a key", () => {
  it("in the wrong section is answered with its own place", async () => {
    expect(await issuesIn(`${VALID}shard_size: 8\nlr: 0.1\nfit: { target_modules: all-linear }\n`)).toEqual([
      issue("shard_size", ["is not a key here; it is evaluate.shard_size"], "6:1"),
      issue("lr", ["is not a key here; it is fit.lr or strategy.server_optimizer.lr"], "7:1"),
      issue("fit.target_modules", ["is not a key here; it is lora.target_modules"], "8:8"),
    ]);
  });

  it("that is nobody's gets the section's keys, once", async () => {
    const [first, second, third] = await issuesIn(`${VALID}fit: { zebra: 1, giraffe: 2 }\nevaluate: { zebra: 1 }\n`);
    expect(first).toEqual(issue("fit.zebra", ["the keys are objective", "local_steps"], "6:8"));
    expect(second).toEqual({ ...first, path: "fit.giraffe", message: "is not a key", location: "6:18" });
    expect(third).toEqual(issue("evaluate.zebra", ["the keys are every"], "7:13"));
  });
});
