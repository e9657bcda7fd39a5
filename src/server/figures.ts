import type { ExampleValues } from "../protocol/example-values.ts";
import type { TierMetrics } from "../records/metrics.ts";
import { type Figure, sumOfSizes } from "./bootstrap.ts";

/** The figures of a tier that its examples have, by the names that metrics.jsonl has for them. */
export function figuresOf(values: ExampleValues, isLanguage: boolean): readonly Figure[] {
  return [...fixedFigures(values, isLanguage), ...otherFigures(values)];
}

/** Those that have a key of their own in metrics.jsonl. */
function fixedFigures(values: ExampleValues, isLanguage: boolean): readonly Figure[] {
  const { loss, targets, bytes, labels, confidence, rougeL } = values;
  const meanLoss = (weights: Float64Array) => ratio(sum(weights, loss), sum(weights, targets));
  const figures: Figure[] = [{ name: "loss", of: meanLoss }];
  if (isLanguage) figures.push({ name: "perplexity", of: (weights) => finite(Math.exp(meanLoss(weights) ?? Number.NaN)) });
  if (bytes) figures.push({ name: "bits_per_byte", of: (weights) => ratio(sum(weights, loss) / Math.LN2, sum(weights, bytes)) });
  if (labels) {
    const hits = labels.predicted.map((label, example) => (label === labels.actual[example] ? 1 : 0));
    figures.push(perExample("accuracy", hits), macroF1(labels, hits));
    if (confidence) figures.push(calibrationError(confidence, hits));
  }
  if (rougeL) figures.push(perExample("rouge_l", rougeL));
  return figures;
}

/** Those that stand in the list `own`; the task's own metrics come last. */
function otherFigures({ positives, numbers, metrics }: ExampleValues): readonly Figure[] {
  return [
    ...(positives ? ofPositives(positives) : []),
    ...(numbers ? ofNumbers(numbers) : []),
    ...metrics.map(({ name, values }) => perExample(name, values)),
  ];
}

function perExample(name: string, each: Float64Array): Figure {
  const isShare = SHARES.includes(name) && each.every((value) => value === 0 || value === 1);
  return { name, isShare, of: (weights) => ratio(sum(weights, each), weights.length) };
}

/** Metrics whose values are from 0 to 1, whatever the examples; where all are 0 or 1, the metric is a share of the examples. */
const SHARES: readonly string[] = ["accuracy", "rouge_l", "token_accuracy", "exact_match", "subset_accuracy"];

/** The figures of all examples, without intervals. */
export function tierMetrics(r: number, values: ExampleValues, isLanguage: boolean): TierMetrics {
  const [fixed, own] = [fixedFigures(values, isLanguage), otherFigures(values)];
  const examples = values.loss.length;
  const once = new Float64Array(examples).fill(1);
  const of = (name: string) => fixed.find((figure) => figure.name === name)?.of(once) ?? null;
  return {
    r,
    loss: of("loss"),
    perplexity: of("perplexity"),
    accuracy: of("accuracy"),
    macroF1: of("macro_f1"),
    rougeL: of("rouge_l"),
    own: own.map((figure) => ({ name: figure.name, value: figure.of(once) })),
    examples,
    bitsPerByte: of("bits_per_byte"),
    ece: of("ece"),
  };
}

/** Mean F1 = 2·hits / (predicted + actual) over the labels that occur or were predicted. */
function macroF1({ predicted, actual }: NonNullable<ExampleValues["labels"]>, hits: Float64Array): Figure {
  const places = new Map([...new Set([...predicted, ...actual])].toSorted((a, b) => a - b).map((label, place) => [label, place]));
  const placed = (labels: Float64Array) => Uint32Array.from(labels, (label) => places.get(label) as number);
  const [ofPredicted, ofActual] = [placed(predicted), placed(actual)];
  const [right, seen] = [new Float64Array(places.size), new Float64Array(places.size)];
  const of = (weights: Float64Array) => {
    right.fill(0);
    seen.fill(0);
    for (let example = 0; example < weights.length; example++) {
      const weight = weights[example] as number;
      right[ofActual[example] as number]! += weight * (hits[example] as number);
      seen[ofPredicted[example] as number]! += weight;
      seen[ofActual[example] as number]! += weight;
    }
    let [scores, labels] = [0, 0];
    for (let place = 0; place < seen.length; place++) {
      const count = seen[place] as number;
      if (count === 0) continue;
      scores += (2 * (right[place] as number)) / count;
      labels++;
    }
    return ratio(scores, labels);
  };
  return { name: "macro_f1", of };
}

/** Over the predictions of all examples together (micro): 2·right / (predicted + actual) is F1. Where a part is empty, its share is 0. */
function ofPositives({ right, predicted, actual }: NonNullable<ExampleValues["positives"]>): readonly Figure[] {
  const share = (name: string, of: (weights: Float64Array) => number): Figure => ({
    name,
    of: (weights) => finite(sum(weights, right) / Math.max(of(weights), 1)),
  });
  return [
    share("f1", (weights) => (sum(weights, predicted) + sum(weights, actual)) / 2),
    share("precision", (weights) => sum(weights, predicted)),
    share("recall", (weights) => sum(weights, actual)),
  ];
}

/** Root of the mean squared error, mean absolute error, R² = 1 − Σ(y − ŷ)² / Σ(y − ȳ)², and Pearson's correlation. */
function ofNumbers({ predicted, actual }: NonNullable<ExampleValues["numbers"]>): readonly Figure[] {
  const errors = predicted.map((value, example) => value - (actual[example] as number));
  const [squares, sizes] = [errors.map((error) => error * error), errors.map(Math.abs)];
  /** Σ w·(a − ā)·(b − b̄) */
  const spread = (weights: Float64Array, a: Float64Array, b: Float64Array) => {
    const [meanA, meanB] = [sum(weights, a) / weights.length, sum(weights, b) / weights.length];
    return weights.reduce((total, weight, i) => total + weight * ((a[i] as number) - meanA) * ((b[i] as number) - meanB), 0);
  };
  const correlation = (weights: Float64Array) =>
    spread(weights, predicted, actual) / Math.sqrt(spread(weights, predicted, predicted) * spread(weights, actual, actual));
  return [
    { name: "rmse", of: (weights) => finite(Math.sqrt(sum(weights, squares) / weights.length)) },
    { name: "mae", of: (weights) => finite(sum(weights, sizes) / weights.length) },
    { name: "r2", of: (weights) => finite(1 - sum(weights, squares) / spread(weights, actual, actual)) },
    { name: "pearson", of: (weights) => finite(correlation(weights)) },
  ];
}

const BINS = 15;

/**
 * The expected calibration error Σ_b (n_b / n)·|accuracy_b − confidence_b| over 15 bins of equal width (Guo et al. 2017, arXiv
 * 1706.04599). A few examples make it too large: even perfect confidence is a little off in every bin.
 */
function calibrationError(confidence: Float64Array, hits: Float64Array): Figure {
  const bins = Uint8Array.from(confidence, (value) => Math.min(BINS - 1, Math.max(0, Math.ceil(value * BINS) - 1)));
  const gaps = hits.map((hit, example) => hit - (confidence[example] as number));
  const parts = (weights: Float64Array) => {
    const sums = new Float64Array(BINS);
    for (let example = 0; example < weights.length; example++)
      sums[bins[example] as number]! += (weights[example] as number) * (gaps[example] as number);
    return sums.map((gap) => gap / weights.length);
  };
  return { name: "ece", parts, of: (weights) => finite(sumOfSizes(parts(weights))) };
}

/** In the order of the examples, in f64. */
function sum(weights: Float64Array, values: Float64Array): number {
  let result = 0;
  for (let example = 0; example < weights.length; example++) result += (weights[example] as number) * (values[example] as number);
  return result;
}

function ratio(numerator: number, denominator: number): number | null {
  return denominator === 0 ? null : finite(numerator / denominator);
}

function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}
