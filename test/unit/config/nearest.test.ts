import { expect, it } from "vitest";
import { nearest } from "../../../src/config/nearest.ts";

it.each([
  ["full_wieght", ["full_weight", "local_steps"], "full_weight"],
  ["lr", ["lr", "head_lr"], "lr"],
  ["l", ["lr", "head_lr"], "lr"],
  ["zebra", ["name", "seed"], undefined],
  ["", ["name"], undefined],
  ["stratgy", [], undefined],
  ["atuo", ["auto"], "auto"],
  ["Causal_LM", ["causal-lm", "seq2seq-lm"], "causal-lm"],
])("the nearest to %j among %j is %j", (word, candidates, expected) => {
  expect(nearest(word, candidates)).toBe(expected);
});
