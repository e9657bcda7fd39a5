import { RefusedError } from "../errors.ts";
import type { Encoded } from "../tensor/encoded.ts";

/*
 * What a worker tells of every example that it evaluated: the tensor `examples` [columns, ranks · examples], for each rank its
 * examples in the order of the range that was asked for. The controller computes all figures from it.
 */

/** The columns that prelort knows, in the order in which they travel. `loss` and `targets` are always there. */
export const EXAMPLE_COLUMNS = [
  "loss",
  "targets",
  "bytes",
  "predicted",
  "actual",
  "confidence",
  "true_positives",
  "predicted_positives",
  "actual_positives",
  "predicted_value",
  "actual_value",
  "rouge_l",
] as const;
export type ExampleColumn = (typeof EXAMPLE_COLUMNS)[number];
/** Most metrics of a task's own. It bounds the memory that an answer may take. */
export const MOST_METRICS = 100;

/** One value for each example. Those that may be NaN say so: of a model that diverged. */
export interface ExampleValues {
  /** Sum over the targets; may be NaN or infinite. */
  readonly loss: Float64Array;
  /** Terms of that sum. */
  readonly targets: Float64Array;
  /** UTF-8 bytes of the text that the targets spell; undefined where they spell none. */
  readonly bytes: Float64Array | undefined;
  /** Indices of labels. */
  readonly labels: { readonly predicted: Float64Array; readonly actual: Float64Array } | undefined;
  /** Probability of the predicted label; may be NaN. */
  readonly confidence: Float64Array | undefined;
  /** How many labels, entities or the like were rightly predicted, were predicted, and are there. */
  readonly positives: { readonly right: Float64Array; readonly predicted: Float64Array; readonly actual: Float64Array } | undefined;
  /** Numbers to predict. What was predicted may be NaN or infinite. */
  readonly numbers: { readonly predicted: Float64Array; readonly actual: Float64Array } | undefined;
  /** ROUGE-L F-measure of the generated text against the answer; undefined where none was generated. */
  readonly rougeL: Float64Array | undefined;
  /** The task's own, which may be anything. */
  readonly metrics: readonly { readonly name: string; readonly values: Float64Array }[];
}

/** What an answer says its tensor holds: prelort's columns, then the task's own metrics by name. */
export interface ExamplesHeader {
  readonly columns: readonly ExampleColumn[];
  readonly metrics: readonly string[];
}

/** What a worker was asked for. */
export interface AskedExamples {
  readonly ranks: readonly number[];
  readonly count: number;
  /** How many labels the data has; 0: not known. */
  readonly labels: number;
}

/** The shape that the tensor must have. Throws a RefusedError if the columns contradict each other. */
export function examplesShape({ columns, metrics }: ExamplesHeader, { ranks, count }: Omit<AskedExamples, "labels">): readonly number[] {
  const has = (name: ExampleColumn) => columns.includes(name);
  const refuse = (expected: string) => {
    throw new RefusedError("the columns of an evaluation", expected, columns.join(", ") || "none");
  };
  const inOrder = EXAMPLE_COLUMNS.filter(has);
  if (inOrder.join() !== columns.join()) refuse(`each once, in the order ${inOrder.join(", ")}`);
  if (!has("loss") || !has("targets")) refuse("loss and targets");
  for (const together of TOGETHER)
    if (together.some(has) && !together.every(has)) refuse(`${together.join(" and ")} together, or none of them`);
  if (has("confidence") && !has("predicted")) refuse("predicted beside confidence");
  if (new Set(metrics).size < metrics.length) throw new RefusedError("the metrics of an evaluation", "each once", metrics.join(", "));
  return [columns.length + metrics.length, ranks.length * count];
}

/**
 * The values at each rank, in the order of the ranks; a copy. The tensor has the shape above. Throws a RefusedError that names the
 * first value that is impossible.
 */
export function decodeExamples(header: ExamplesHeader, { bytes }: Pick<Encoded<"F64">, "bytes">, asked: AskedExamples): ExampleValues[] {
  const all = new Float64Array(new Uint8Array(bytes).buffer);
  const { ranks, count, labels } = asked;
  return ranks.map((r, place) => {
    const column = (index: number) => all.subarray((index * ranks.length + place) * count, (index * ranks.length + place + 1) * count);
    const values = (name: ExampleColumn) => {
      const index = header.columns.indexOf(name);
      if (index < 0) return undefined;
      const found = column(index);
      checkColumn(name, found, r, labels);
      return found;
    };
    const [predicted, actual] = [values("predicted"), values("actual")];
    const [right, ofPredicted, ofActual] = [values("true_positives"), values("predicted_positives"), values("actual_positives")];
    const [estimate, number] = [values("predicted_value"), values("actual_value")];
    const positives = right && ofPredicted && ofActual && { right, predicted: ofPredicted, actual: ofActual };
    if (positives) checkPositives(positives, r);
    return {
      loss: values("loss") ?? new Float64Array(count),
      targets: values("targets") ?? new Float64Array(count),
      bytes: values("bytes"),
      labels: predicted && actual && { predicted, actual },
      confidence: values("confidence"),
      positives,
      numbers: estimate && number && { predicted: estimate, actual: number },
      rougeL: values("rouge_l"),
      metrics: header.metrics.map((name, index) => ({ name, values: column(header.columns.length + index) })),
    };
  });
}

/** The values of shards in one, in their order. They have the same columns. */
export function joinExamples(shards: readonly ExampleValues[]): ExampleValues {
  const [first] = shards;
  if (!first) return NO_EXAMPLES;
  const join = (of: (shard: ExampleValues) => Float64Array | undefined) => (of(first) ? concatenate(shards.map(of)) : undefined);
  const pair = (of: (shard: ExampleValues) => ExampleValues["labels"]) => {
    const [predicted, actual] = [join((shard) => of(shard)?.predicted), join((shard) => of(shard)?.actual)];
    return predicted && actual && { predicted, actual };
  };
  const [right, counts] = [join(({ positives }) => positives?.right), pair(({ positives }) => positives)];
  return {
    loss: concatenate(shards.map(({ loss }) => loss)),
    targets: concatenate(shards.map(({ targets }) => targets)),
    bytes: join(({ bytes }) => bytes),
    labels: pair(({ labels }) => labels),
    confidence: join(({ confidence }) => confidence),
    positives: right && counts && { right, ...counts },
    numbers: pair(({ numbers }) => numbers),
    rougeL: join(({ rougeL }) => rougeL),
    metrics: first.metrics.map(({ name }, index) => ({ name, values: concatenate(shards.map(({ metrics }) => metrics[index]?.values)) })),
  };
}

const NO_EXAMPLES: ExampleValues = {
  loss: new Float64Array(0),
  targets: new Float64Array(0),
  bytes: undefined,
  labels: undefined,
  confidence: undefined,
  positives: undefined,
  numbers: undefined,
  rougeL: undefined,
  metrics: [],
};

function concatenate(parts: readonly (Float64Array | undefined)[]): Float64Array {
  const whole = new Float64Array(parts.reduce((sum, part) => sum + (part?.length ?? 0), 0));
  let start = 0;
  for (const part of parts) {
    if (part) whole.set(part, start);
    start += part?.length ?? 0;
  }
  return whole;
}

/** Columns that make sense only together. */
const TOGETHER: readonly (readonly ExampleColumn[])[] = [
  ["predicted", "actual"],
  ["true_positives", "predicted_positives", "actual_positives"],
  ["predicted_value", "actual_value"],
];

function checkPositives({ right, predicted, actual }: NonNullable<ExampleValues["positives"]>, r: number): void {
  for (const [example, count] of right.entries()) {
    const most = Math.min(predicted[example] as number, actual[example] as number);
    if (count > most) throw new RefusedError(`true_positives of example ${example} at rank ${r}`, `at most ${most}`, `${count}`);
  }
}

function checkColumn(name: ExampleColumn, values: Float64Array, r: number, labels: number): void {
  const rule = ruleOf(name, labels);
  if (!rule) return;
  const wrong = values.findIndex((value) => !rule.holds(value));
  if (wrong >= 0) throw new RefusedError(`${name} of example ${wrong} at rank ${r}`, rule.expected, `${values[wrong]}`);
}

/** What values must be; undefined for any. */
function ruleOf(name: ExampleColumn, labels: number): { readonly expected: string; holds(value: number): boolean } | undefined {
  const isWhole = (value: number) => Number.isSafeInteger(value) && value >= 0;
  switch (name) {
    case "loss":
    case "predicted_value":
      return undefined;
    case "actual_value":
      return { expected: "a finite number", holds: Number.isFinite };
    case "targets":
    case "bytes":
    case "true_positives":
    case "predicted_positives":
    case "actual_positives":
      return { expected: "a whole number from 0", holds: isWhole };
    case "predicted":
    case "actual":
      return labels === 0
        ? { expected: "the number of a label", holds: isWhole }
        : { expected: `the number of one of ${labels} labels, from 0`, holds: (value) => isWhole(value) && value < labels };
    case "confidence":
      return { expected: "a probability, or NaN", holds: (value) => !(value < 0 || value > 1 + ROUNDING) };
    case "rouge_l":
      return { expected: "a number from 0 to 1", holds: (value) => value >= 0 && value <= 1 + ROUNDING };
  }
}

/** A softmax in float32 may exceed 1 by its rounding. */
const ROUNDING = 1e-5;
