import type { Rule } from "./rule.ts";

/* Rules on the model's task and the data it learns from. */

type DataKey = "text" | "label" | "prompt" | "answer" | "messages" | "image";
/** The columns of each built-in task: all of one list in `either`, and optionally those in `also`. */
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
    // The list that the user most likely meant.
    const meant = either.find((keys) => keys.some((key) => given.includes(key))) ?? either[0] ?? [];
    const others = either.filter((keys) => keys !== meant).map((keys) => keys.map((key) => `data.${key}`).join(" and "));
    const instead = others.length > 0 ? `, or instead ${others.join(", or ")}` : "";
    for (const key of meant) if (!given.includes(key)) report(["data", key], `is needed for model.task ${task}${instead}`);
    for (const key of given) {
      if (meant.includes(key) || also.includes(key)) continue;
      const isAlternative = either.some((keys) => keys.includes(key));
      report(["data", key], `cannot be combined with ${isAlternative ? `data.${meant.join(" and data.")}` : `model.task ${task}`}`);
    }
  },
};

const ofCausalLm: Rule = {
  reads: ["model.task", "data.chat", "data.packing", "data.prompt", "data.messages"],
  check({ model: { task }, data: { chat, packing, prompt } }, report) {
    const is = task === "causal-lm";
    if (packing && !is && task in COLUMNS) report(["data", "packing"], `cannot be combined with model.task ${task}`);
    if (chat && !is && task in COLUMNS) report(["data", "chat"], `cannot be combined with model.task ${task}`);
    if (chat && is && prompt === undefined) report(["data", "chat"], "needs data.prompt and data.answer, which it writes as turns");
  },
};

const ofModel: Rule = {
  reads: ["model"],
  check({ model: { task, pooling, taskFolder, quantization, dtype, attention } }, report) {
    if (pooling && task !== "sequence-classification") report(["model", "pooling"], `cannot be combined with model.task ${task}`);
    if (pooling && quantization) report(["model", "quantization"], "cannot be combined with model.pooling");
    if (taskFolder !== undefined && !task.includes(":"))
      report(["model", "taskFolder"], `cannot be combined with model.task ${task}, which is built in`);
    if (quantization && dtype === "f32")
      report(["model", "dtype"], "must be bf16 with model.quantization: the parts that are not quantized compute in it");
    if (attention?.startsWith("flash_attention") && dtype === "f32")
      report(["model", "dtype"], `must be bf16 with model.attention ${attention}, whose kernels have no f32`);
  },
};

const ofProblemType: Rule = {
  reads: ["model.task", "model.problemType", "data.labelSeparator", "fit.labelSmoothing"],
  check({ model: { task, problemType }, data: { labelSeparator }, fit: { labelSmoothing } }, report) {
    if (problemType && task !== "sequence-classification")
      report(
        ["model", "problemType"],
        `cannot be combined with model.task ${task}${task.includes(":") ? ", which is what its class is" : ""}`,
      );
    if (labelSeparator !== undefined && problemType !== "multi_label_classification")
      report(["data", "labelSeparator"], "needs model.problem_type multi_label_classification");
    if (problemType && labelSmoothing > 0)
      report(
        ["fit", "labelSmoothing"],
        `cannot be combined with model.problem_type ${problemType}: only a choice of one label is smoothed`,
      );
  },
};

const generationOfLanguage: Rule = {
  reads: ["model.task", "evaluate.maxNewTokens", "data"],
  check({ model: { task }, evaluate: { maxNewTokens }, data }, report) {
    if (maxNewTokens === 0) return;
    const path = ["evaluate", "maxNewTokens"];
    if (task.endsWith("classification")) report(path, `cannot be combined with model.task ${task}, which generates no text`);
    else if (task === "causal-lm" && data.text !== undefined) report(path, "needs a prompt to answer, and data.text has none");
  },
};

const headToTrain: Rule = {
  reads: ["model.task", "lora.modules_to_save", "fit.headLr"],
  check({ model: { task }, lora: { modules_to_save: saved }, fit: { headLr } }, report) {
    if (headLr === undefined || !task.endsWith("-lm") || (saved && saved.length > 0)) return;
    report(["fit", "headLr"], `has nothing to train: a ${task} trains no modules in full but those in lora.modules_to_save`);
  },
};

const answerToLearn: Rule = {
  reads: ["model.task", "data.maxLength"],
  check({ model: { task }, data: { maxLength } }, report) {
    if (task.endsWith("-lm") && maxLength < 2)
      report(["data", "maxLength"], `must be at least 2: nothing predicts a text's first token, got ${maxLength}`);
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

const samplesOfAnswers: Rule = {
  reads: ["evaluate.samples", "evaluate.maxNewTokens", "evaluate.shardSize"],
  check({ evaluate: { samples, maxNewTokens, shardSize } }, report) {
    if (samples > 0 && maxNewTokens === 0)
      report(["evaluate", "samples"], "needs evaluate.max_new_tokens above 0, the tokens of an answer");
    if (samples > shardSize) report(["evaluate", "samples"], `must be at most evaluate.shard_size (${shardSize}), got ${samples}`);
  },
};

export const dataRules: readonly Rule[] = [
  dataColumns,
  ofCausalLm,
  ofModel,
  ofProblemType,
  generationOfLanguage,
  samplesOfAnswers,
  headToTrain,
  answerToLearn,
  somethingToTrainOn,
];
