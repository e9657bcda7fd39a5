import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadConfig } from "../../../src/config/load.ts";
import { ConfigError } from "../../../src/errors.ts";

const TEXT = `rounds: 1
strategy: { rank_assignment: { name: list, ranks: [2] } }
model: { name_or_path: tiny, task: causal-lm }
lora: { r: 2, target_modules: [q_proj] }
data: { path: words.jsonl, text: "{gloss}", clients: 1 }
`;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "prelort-override-"));
  await writeFile(path.join(folder, "words.jsonl"), "{}\n");
});
afterAll(() => rm(folder, { recursive: true }));

async function load(text: string, set: readonly string[] = []) {
  const file = path.join(folder, "run.yaml");
  await writeFile(file, text);
  return loadConfig(file, { set });
}

async function hintOf(text: string, set: readonly string[] = []): Promise<string | undefined> {
  const error: unknown = await load(text, set).catch((cause: unknown) => cause);
  expect(error).toBeInstanceOf(ConfigError);
  return /did you mean (.*)\?$/.exec((error as ConfigError).issues[0]?.message ?? "")?.[1];
}

test.each([
  ["strategy.aggregation=flora", "flora"],
  ["strategy.aggregation=Flor", "flora"],
  ["strategy.selection=all", "all"],
])("--set %s, which lacks the map, is answered with an assignment that works", async (assignment, name) => {
  const [key = ""] = assignment.split("=");
  const hint = await hintOf(TEXT, [assignment]);
  expect(hint).toBe(`--set '${key}={ name: ${name} }'`);
  const { strategy } = await load(TEXT, [hint?.slice("--set '".length, -1) ?? ""]);
  expect(strategy[key === "strategy.selection" ? "selection" : "aggregation"]).toMatchObject({ name });
});

test("a policy's bare name in a file is answered with the map", async () => {
  expect(await hintOf(TEXT.replace("{ name: list, ranks: [2] }", "list"))).toBe("{ name: list }");
});

test("a word that resembles no policy gets no hint", async () => {
  expect(await hintOf(TEXT, ["strategy.aggregation=zebra"])).toBeUndefined();
  expect(await hintOf(TEXT, ["lora=flora"])).toBeUndefined();
});
