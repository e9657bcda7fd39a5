import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { loadConfig } from "../../../src/config/load.ts";
import { issue, issuesOf } from "../../support/config-issues.ts";

let file: string;
beforeEach(() => {
  file = path.join(mkdtempSync(path.join(tmpdir(), "prelort-best-")), "run.yaml");
});
afterEach(() => rmSync(path.dirname(file), { recursive: true }));

/** A config with these lines from line 8 on. */
const load = (lines: string, task = "causal-lm", lora = "r: 8") => {
  const answer = task === "sequence-classification" ? "label: kind, text: word" : 'prompt: "{word}", answer: "{gloss}"';
  const text = `rounds: 3
strategy: { rank_assignment: { name: tiered, shares: { 8: 0.25, 2: 0.75 } } }
model:
  name_or_path: m
  task: ${task}
lora: { ${lora}, target_modules: all-linear }
data: { path: d, ${answer}, clients: 4 }
${lines}`;
  writeFileSync(file, text);
  return loadConfig(file);
};

const issuesIn = async (...given: Parameters<typeof load>) =>
  (await issuesOf(() => load(...given))).map((found) => ({ ...found, location: String(found.location).replace(`${file}:`, "") }));

test("the best round is judged by the area unless the config says otherwise, and all rounds are kept", async () => {
  expect(await load("evaluate: { best: { metric: loss } }")).toMatchObject({
    evaluate: { best: { metric: "loss", at: "area" } },
    keepRounds: "all",
  });
  const config = await load("evaluate: { best: { metric: perplexity, at: 2 } }\nstop_when: { patience: 3 }\nkeep_rounds: 2");
  expect(config).toMatchObject({ evaluate: { best: { at: 2 } }, stopWhen: { patience: 3, minDelta: 0 }, keepRounds: 2 });
  expect((await load("")).evaluate.best).toBeUndefined();
});

test.each<[string, string, ReturnType<typeof issue>, (string | undefined)?, string?]>([
  [
    "a metric that its built-in task does not have",
    "evaluate:\n  best: { metric: accuracy }",
    issue(
      "evaluate.best.metric",
      ["loss, perplexity, token_accuracy, bits_per_byte, rouge_l, exact_match", "causal-lm", '"accuracy"'],
      "9:19",
    ),
  ],
  [
    "a metric of one's own with a built-in task",
    "evaluate:\n  best: { metric: bleu, mode: max }",
    issue("evaluate.best.metric", ["loss, accuracy, macro_f1, ece", "sequence-classification", '"bleu"'], "9:19"),
    "sequence-classification",
  ],
  [
    "ROUGE-L without generated text",
    "evaluate:\n  best: { metric: rouge_l }",
    issue("evaluate.best.metric", ["evaluate.max_new_tokens"], "9:19"),
  ],
  [
    "a metric of one's own without mode",
    "evaluate:\n  best: { metric: bleu }",
    issue("evaluate.best.mode", ["min", "max", "bleu"], "9:3"),
    "tasks:Mine",
  ],
  [
    "a mode that contradicts the metric",
    "evaluate:\n  best: { metric: loss, mode: max }",
    issue("evaluate.best.mode", ["min", "loss", "max"], "9:31"),
  ],
  ["a rank that is no tier", "evaluate:\n  best: { metric: loss, at: 4 }", issue("evaluate.best.at", ["[2, 8]", 4], "9:29")],
  [
    "a rank that is not among lora.tiers",
    "evaluate:\n  best: { metric: loss, at: 4 }",
    issue("evaluate.best.at", ["[1, 2, 8]", 4], "9:29"),
    undefined,
    "r: 8, tiers: [1, 2, 8]",
  ],
  ["a word for at that means nothing", "evaluate:\n  best: { metric: loss, at: mean }", issue("evaluate.best.at", ['"mean"'], "9:29")],
  [
    "nothing to stop for",
    "evaluate: { best: { metric: loss } }\nstop_when: { min_delta: 1 }",
    issue("stop_when", ["patience", "target"], "9:12"),
  ],
  ["stopping without a metric", "stop_when: { patience: 1 }", issue("stop_when", ["evaluate.best"], "8:12")],
  ["keeping the best round without a metric", "keep_rounds: best", issue("keep_rounds", ["evaluate.best"], "8:14")],
  ["recorded updates without all rounds", "keep_rounds: 3\nrecord_updates: true", issue("keep_rounds", ["record_updates"], "8:14")],
  ["keeping no round", "keep_rounds: 0", issue("keep_rounds", [0], "8:14")],
])("a config is refused, with its place, for %s", async (_, lines, expected, task, lora) => {
  expect(await issuesIn(lines, task, lora)).toEqual([expected]);
});

test("a task of one's own may have any metric, with a mode unless prelort computes it", async () => {
  for (const best of ["{ metric: bleu, mode: max }", "{ metric: accuracy }", "{ metric: loss, mode: min }"])
    expect((await load(`evaluate: { best: ${best} }`, "tasks:Mine")).evaluate.best).toBeDefined();
});
