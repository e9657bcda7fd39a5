import type { z } from "zod";
import { memoryShortage } from "../strategy/ranks/profile.ts";
import { clientRules } from "./client-rules.ts";
import { namedRanks, rankSpecOf, selectionSpecOf } from "./policy-specs.ts";
import type { Checked, Rule } from "./rule.ts";
import type { Path } from "./tree.ts";

/** zod skips a refinement once anything is wrong; `when` has these run on what is right, so that all issues come at once. */
export function withRules<S extends z.ZodType<Checked>>(schema: S): S {
  return schema.superRefine(
    (config, context) => {
      const wrong = context.issues.filter(({ code }) => code !== "unrecognized_keys").map(({ path }) => (path ?? []) as Path);
      const report = (path: Path, message: string) => context.addIssue({ code: "custom", path: [...path], message });
      for (const { reads, check } of rules) {
        if (!reads.some((key) => wrong.some((path) => overlap(key.split("."), path)))) check(config, report);
      }
    },
    { when: () => true },
  );
}

type DataKey = "text" | "label" | "prompt" | "answer" | "messages" | "image";
/** Of each built-in task: the columns that make an example, of which one list is given whole, and what may be beside it. */
const COLUMNS: Readonly<Record<string, { readonly either: readonly (readonly DataKey[])[]; readonly also?: readonly DataKey[] }>> = {
  "causal-lm": { either: [["prompt", "answer"], ["text"], ["messages"]] },
  "seq2seq-lm": { either: [["prompt", "answer"]] },
  "sequence-classification": { either: [["text", "label"]] },
  "image-classification": { either: [["label"]], also: ["image"] },
};
const DATA_KEYS: readonly DataKey[] = ["text", "label", "prompt", "answer", "messages", "image"];

const dataColumns: Rule = {
  reads: ["model.task", "data"],
  check({ model: { task }, data }, report) {
    const columns = COLUMNS[task];
    if (!columns) return;
    const { either, also = [] } = columns;
    const given = DATA_KEYS.filter((key) => data[key] !== undefined);
    // The list that was meant, to judge by what is given of it.
    const meant = either.find((keys) => keys.some((key) => given.includes(key))) ?? either[0] ?? [];
    const others = either.filter((keys) => keys !== meant).map((keys) => keys.map((key) => `data.${key}`).join(" and "));
    const instead = others.length > 0 ? `, or instead ${others.join(", or ")}` : "";
    for (const key of meant) if (!given.includes(key)) report(["data", key], `is needed for model.task ${task}${instead}`);
    for (const key of given) {
      if (meant.includes(key) || also.includes(key)) continue;
      const isAlternative = either.some((keys) => keys.includes(key));
      report(["data", key], `does not go with ${isAlternative ? `data.${meant.join(" and data.")}` : `model.task ${task}`}`);
    }
  },
};

const ofCausalLm: Rule = {
  reads: ["model.task", "data.chat", "data.packing", "data.prompt", "data.messages"],
  check({ model: { task }, data: { chat, packing, prompt } }, report) {
    const is = task === "causal-lm";
    if (packing && !is && task in COLUMNS) report(["data", "packing"], `does not go with model.task ${task}`);
    if (chat && !is && task in COLUMNS) report(["data", "chat"], `does not go with model.task ${task}`);
    if (chat && is && prompt === undefined) report(["data", "chat"], "writes data.prompt and data.answer as turns: it needs them");
  },
};

const ofModel: Rule = {
  reads: ["model"],
  check({ model: { task, pooling, taskFolder, quantization, dtype } }, report) {
    if (pooling && task !== "sequence-classification") report(["model", "pooling"], `does not go with model.task ${task}`);
    if (pooling && quantization) report(["model", "quantization"], "does not go with model.pooling");
    if (taskFolder !== undefined && !task.includes(":"))
      report(["model", "taskFolder"], `does not go with model.task ${task}, which is built in`);
    if (quantization && dtype === "f32")
      report(["model", "dtype"], "must be bf16 with model.quantization: what is not quantised computes in it");
  },
};

const generationOfLanguage: Rule = {
  reads: ["model.task", "evaluate.maxNewTokens", "data"],
  check({ model: { task }, evaluate: { maxNewTokens }, data }, report) {
    if (maxNewTokens === 0) return;
    const path = ["evaluate", "maxNewTokens"];
    if (task.endsWith("classification")) report(path, `does not go with model.task ${task}: it writes nothing`);
    else if (task === "causal-lm" && data.text !== undefined) report(path, "needs a prompt to answer, and data.text has none");
  },
};

const tiersOfRank: Rule = {
  reads: ["lora.r", "lora.tiers"],
  check({ lora: { r, tiers } }, report) {
    if (!tiers) return;
    const ascending = tiers.every((tier, place) => tier > (tiers[place - 1] ?? 0));
    if (!ascending) report(["lora", "tiers"], `must ascend without repeats, got [${tiers.join(", ")}]`);
    else if (tiers.at(-1) !== r) report(["lora", "tiers"], `must end with lora.r (${r}), got [${tiers.join(", ")}]`);
  },
};

const assignedRanks: Rule = {
  reads: ["lora.r", "lora.tiers", "strategy.rankAssignment"],
  check({ lora: { r: largest, tiers }, strategy: { rankAssignment } }, report) {
    const spec = rankSpecOf(rankAssignment);
    for (const { r, at } of spec ? namedRanks(spec) : []) {
      const path = ["strategy", "rankAssignment", ...at];
      if (r > largest) report(path, `rank ${r} is larger than lora.r (${largest})`);
      else if (tiers && !tiers.includes(r)) report(path, `rank ${r} is not among lora.tiers [${tiers.join(", ")}]`);
    }
  },
};

const sharesOfOne: Rule = {
  reads: ["strategy.rankAssignment"],
  check({ strategy: { rankAssignment } }, report) {
    const spec = rankSpecOf(rankAssignment);
    if (spec?.name !== "tiered") return;
    const sum = Object.values(spec.shares).reduce((total, share) => total + share, 0);
    if (Math.abs(sum - 1) > 1e-9) report(["strategy", "rankAssignment", "shares"], `must sum to 1, got ${sum}`);
  },
};

const declaredMemory: Rule = {
  reads: ["data.profiles", "strategy.rankAssignment"],
  check({ data: { profiles }, strategy: { rankAssignment } }, report) {
    const spec = rankSpecOf(rankAssignment);
    if (spec?.name !== "profile") return;
    if (!profiles) report(["data", "profiles"], "is needed: the rank assignment profile gives ranks by each client's memory");
    for (const [place, { memoryGiB }] of (profiles ?? []).entries()) {
      const shortage = memoryShortage(memoryGiB, spec.memoryGiB);
      if (shortage) report(["data", "profiles", place, "memoryGiB"], shortage);
    }
  },
};

const declaredSpeed: Rule = {
  reads: ["data.profiles", "strategy.selection"],
  check({ data: { profiles }, strategy: { selection } }, report) {
    const spec = selectionSpecOf(selection);
    if (spec?.name !== "oort" || spec.preferredSpeed === undefined) return;
    if (!profiles) report(["data", "profiles"], "is needed: the selection oort compares each client's speed with its preferred speed");
    for (const [place, { speed }] of (profiles ?? []).entries()) {
      if (speed === undefined)
        report(["data", "profiles", place, "speed"], "is needed: the selection oort compares it with its preferred speed");
    }
  },
};

const oneNumberOfWorkers: Rule = {
  reads: ["workers.count", "workers.slotsPerDevice"],
  check({ workers: { count, slotsPerDevice } }, report) {
    if (count === undefined || slotsPerDevice === undefined) return;
    const message = "does not go with workers.count, which is the number of workers in all: give one of the two";
    report(["workers", "slotsPerDevice"], message);
  },
};

const noIdleDevice: Rule = {
  reads: ["workers.count", "workers.devices"],
  check({ workers: { count, devices } }, report) {
    if (count === undefined || devices === "auto" || count >= devices.length) return;
    report(["workers", "count"], `must be at least ${devices.length}, one worker for each of workers.devices, got ${count}`);
  },
};

const headToTrain: Rule = {
  reads: ["model.task", "lora.modules_to_save", "fit.headLr"],
  check({ model: { task }, lora: { modules_to_save: saved }, fit: { headLr } }, report) {
    if (headLr === undefined || !task.endsWith("-lm") || (saved && saved.length > 0)) return;
    report(["fit", "headLr"], `has nothing to train: a ${task} has no modules but those that lora.modules_to_save names`);
  },
};

const answerToLearn: Rule = {
  reads: ["model.task", "data.maxLength"],
  check({ model: { task }, data: { maxLength } }, report) {
    if (task.endsWith("-lm") && maxLength < 2) report(["data", "maxLength"], "must be at least 2: no position tells a text's first token");
  },
};

const somethingToTrainOn: Rule = {
  reads: ["data.clientEvalExamples", "data.partition"],
  check({ data: { clientEvalExamples, partition } }, report) {
    if (!("minExamples" in partition) || partition.minExamples > clientEvalExamples) return;
    const message = `must be larger than the ${clientEvalExamples} examples that each client holds out, got ${partition.minExamples}`;
    report(["data", "partition", "minExamples"], message);
  },
};

/** A spec in a file; in a program a policy that knows what it was made with. */
function aggregationName(aggregation: unknown): string {
  const { name = "", policy } = (aggregation ?? {}) as { readonly name?: string; readonly policy?: { readonly name?: unknown } };
  return policy ? String(policy.name) : name;
}

const exactMerge: Rule = {
  reads: ["model.dtype", "model.quantization", "strategy.aggregation"],
  check({ model: { dtype, quantization }, strategy: { aggregation } }, report) {
    if ((dtype === "f32" && !quantization) || aggregationName(aggregation) !== "flora") return;
    report(
      ["model", quantization ? "quantization" : "dtype"],
      `does not go with the aggregation flora, which merges into the base: ${quantization ?? dtype} would lose most of a small change`,
    );
  },
};

const ROTATING = ["zero-pad-weights", "hetlora", "flora", "flexlora", "raflora", "hlora"];

const optimizerOfDeltas: Rule = {
  reads: ["strategy.aggregation", "strategy.serverOptimizer"],
  check({ strategy: { aggregation, serverOptimizer } }, report) {
    const { policy } = (aggregation ?? {}) as { readonly policy?: Record<string, unknown> };
    const called = aggregationName(aggregation);
    if (!(policy ? policy["serverOptimizer"] : serverOptimizer) || !ROTATING.includes(called)) return;
    const why = "which does not average deltas: its components do not keep their meaning from round to round";
    report(["strategy", "serverOptimizer"], `does not go with the aggregation ${called}, ${why}`);
  },
};

const quorumIsEnough: Rule = {
  reads: ["closing"],
  check({ closing: { quorum, enough } }, report) {
    if (quorum === undefined || enough === undefined || quorum <= enough) return;
    report(["closing", "enough"], `must be at least closing.quorum (${quorum}), got ${enough}`);
  },
};

const rules: readonly Rule[] = [
  quorumIsEnough,
  optimizerOfDeltas,
  dataColumns,
  ofCausalLm,
  ofModel,
  generationOfLanguage,
  tiersOfRank,
  assignedRanks,
  sharesOfOne,
  declaredMemory,
  declaredSpeed,
  oneNumberOfWorkers,
  noIdleDevice,
  headToTrain,
  answerToLearn,
  somethingToTrainOn,
  exactMerge,
  ...clientRules,
];

/** Whether one path is the other or leads to it. */
function overlap(one: Path, other: Path): boolean {
  return one.slice(0, other.length).every((key, place) => key === other[place]);
}
