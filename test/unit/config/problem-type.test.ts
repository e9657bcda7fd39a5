import { expect, test } from "vitest";
import { validateRun } from "../../../src/config/build.ts";
import type { RunInput } from "../../../src/config/schema.ts";
import { toDataSpec, toModelSpec } from "../../../src/config/wire-specs.ts";
import { segmentWise } from "../../../src/strategy/aggregation/segment-wise.ts";
import { tieredRanks } from "../../../src/strategy/ranks/tiered.ts";
import { allClients } from "../../../src/strategy/selection/all.ts";
import { issue, issuesOf } from "../../support/config-issues.ts";

const SETS = "multi_label_classification";
const classifier = { task: "sequence-classification", problemType: SETS } as const;
const labelled = { text: "{word}", label: "kinds" };

type Given = Pick<RunInput, "fit" | "evaluate"> & { readonly model: Partial<RunInput["model"]>; readonly data: Partial<RunInput["data"]> };

const configOf = ({ model, data, ...rest }: Given): RunInput => ({
  rounds: 1,
  model: { nameOrPath: "tiny", task: "causal-lm", ...model },
  lora: { r: 8, target_modules: ["q_proj"] },
  data: { path: "words", clients: 2, ...data },
  strategy: { selection: allClients(), rankAssignment: tieredRanks({ 8: 1 }), aggregation: segmentWise() },
  ...rest,
});

test("a classifier of label sets and its separator reach the worker; by default both are left out", () => {
  const config = validateRun(configOf({ model: classifier, data: { ...labelled, labelSeparator: "|" } }));
  expect([toModelSpec(config).problem_type, toDataSpec(config).label_separator]).toEqual([SETS, "|"]);
  const plain = validateRun(configOf({ model: { task: "sequence-classification" }, data: labelled }));
  expect([toModelSpec(plain).problem_type, toDataSpec(plain).label_separator]).toEqual([null, null]);
});

test.each<[string, Given, ReturnType<typeof issue>]>([
  [
    "a language model has no problem type",
    { model: { problemType: "regression" }, data: { prompt: "", answer: "{gloss}" } },
    issue("model.problemType", ["causal-lm"]),
  ],
  [
    "a task of one's own is what its class is",
    { model: { ...classifier, task: "mine:Mine" }, data: labelled },
    issue("model.problemType", ["mine:Mine", "class"]),
  ],
  [
    "one label needs no separator",
    { model: { task: "sequence-classification" }, data: { ...labelled, labelSeparator: ";" } },
    issue("data.labelSeparator", [SETS]),
  ],
  [
    "several labels are not smoothed",
    { model: classifier, data: labelled, fit: { labelSmoothing: 0.1 } },
    issue("fit.labelSmoothing", [SETS]),
  ],
  [
    "a set of labels has F1 and no accuracy",
    { model: classifier, data: labelled, evaluate: { best: { metric: "accuracy" } } },
    issue("evaluate.best.metric", ["loss, f1, precision, recall, subset_accuracy", SETS, '"accuracy"']),
  ],
  [
    "a number has its errors",
    { model: { ...classifier, problemType: "regression" }, data: labelled, evaluate: { best: { metric: "f1" } } },
    issue("evaluate.best.metric", ["loss, rmse, mae, r2, pearson", "regression", '"f1"']),
  ],
])("%s", async (_, given, expected) => {
  expect(await issuesOf(() => validateRun(configOf(given)))).toEqual([expected]);
});
