import type { ExampleValues } from "../protocol/example-values.ts";
import type { TierMetrics } from "../records/metrics.ts";
import { type Figure, sumOfSizes } from "./bootstrap.ts";

/** The figures of a tier that its examples have, by the names that metrics.jsonl has for them; the task's own come last. */
export function figuresOf(values: ExampleValues, isLanguage: boolean): readonly Figure[] {
  const { loss, targets, bytes, labels, confidence, rougeL, metrics } = values;
  const meanLoss = (weights: Float64Array) => ratio(sum(weights, loss), sum(weights, targets));
  const perExample = (name: string, each: Float64Array): Figure => {
    const isShare = SHARES.includes(name) && each.every((value) => value === 0 || value === 1);
    return { name, isShare, of: (weights) => ratio(sum(weights, each), weights.length) };
  };
  const figures: Figure[] = [{ name: "loss", of: meanLoss }];
  if (isLanguage) figures.push({ name: "perplexity", of: (weights) => finite(Math.exp(meanLoss(weights) ?? Number.NaN)) });
  if (bytes) figures.push({ name: "bits_per_byte", of: (weights) => ratio(sum(weights, loss) / Math.LN2, sum(weights, bytes)) });
  if (labels) {
    const hits = labels.predicted.map((label, example) => (label === labels.actual[example] ? 1 : 0));
    figures.push(perExample("accuracy", hits), macroF1(labels, hits));
    if (confidence) figures.push(calibrationError(confidence, hits));
  }
  if (rougeL) figures.push(perExample("rouge_l", rougeL));
  return [...figures, ...metrics.map(({ name, values: own }) => perExample(name, own))];
}

/** Metrics whose values are from 0 to 1, whatever the examples; where all are 0 or 1, the metric is a share of the examples. */
const SHARES: readonly string[] = ["accuracy", "rouge_l", "token_accuracy", "exact_match"];

/** The figures of all examples, without intervals. */
export function tierMetrics(r: number, values: ExampleValues, isLanguage: boolean): TierMetrics {
  const figures = figuresOf(values, isLanguage);
  const own = figures.slice(figures.length - values.metrics.length);
  const examples = values.loss.length;
  const once = new Float64Array(examples).fill(1);
  const of = (name: string) =>
    figures
      .slice(0, figures.length - own.length)
      .find((figure) => figure.name === name)
      ?.of(once) ?? null;
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
