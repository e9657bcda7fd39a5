import { prefix } from "../../adapter/adapter.ts";
import { segments } from "../../adapter/segments.ts";
import { encodingOf } from "../../adapter/encoded-adapter.ts";
import { LARGEST_DELTA } from "../../adapter/update.ts";
import { updateNorm } from "../../adapter/update-norm.ts";
import { OrderFreeSum } from "../../tensor/order-free-sum.ts";
import { inTurns, type Work } from "../../base/turns.ts";
import { requireOption } from "../policy.ts";
import type { Accumulator, Aggregation, PartialSum, RoundContext, Update } from "../strategy.ts";
import { rollCall } from "./participation.ts";
import { heldNorm } from "./held-norm.ts";
import { type Weigh, weighBy, type Weights } from "./weights.ts";

/** How a segment changes: next = keep·previous + step·(mean delta of the clients that trained it). */
export interface SegmentRule {
  readonly keep: number;
  readonly step: number;
}

export interface ContributorOptions {
  /**
   * Least number of clients for a segment: if fewer train it, it keeps its value to the byte, and so do `modules_to_save`
   * if fewer report. 1 by default. A mean over a single client is that client's update.
   */
  readonly minContributors?: number | undefined;
}

export interface SegmentMeansOptions extends ContributorOptions {
  /** Largest ‖Δ‖₂ of an update; a larger one is scaled down to it. */
  readonly clip?: number | undefined;
}

/**
 * Aggregations that average deltas segment by segment and differ only in how a segment changes, given the share
 * Σ_{k∈S_m} w_k / Σ_k w_k of the reporting clients that train it. `modules_to_save` are averaged over all clients that
 * reported. A round without reports leaves everything unchanged to the byte. Memory is one float64 per value, however
 * many clients report.
 */
export function segmentMeans(
  weights: Weights,
  rule: (share: number) => SegmentRule,
  options: SegmentMeansOptions = {},
): Pick<Aggregation, "addsUp" | "begin" | "distribute"> {
  requireContributors(options);
  const memory: Memory = {};
  return { addsUp: true, distribute: prefix, begin: (context) => accumulate(context, weighBy(weights), rule, options, memory) };
}

export function requireContributors({ minContributors = 1 }: ContributorOptions): void {
  requireOption(Number.isSafeInteger(minContributors) && minContributors >= 1, "minContributors", "a whole number from 1", minContributors);
}

/** For the run's record, without the default: earlier runs did not record this option and must still resume. */
export function describeContributors({ minContributors = 1 }: ContributorOptions): ContributorOptions {
  return minContributors > 1 ? { minContributors } : {};
}

/** The sum of the previous round; the next one reuses its memory. */
interface Memory {
  spare?: OrderFreeSum | undefined;
}

function mergePartial(sum: OrderFreeSum, { members, rows, dense }: PartialSum, weightOf: Weigh, denseAt: number): Work<void> {
  const parts = [
    { name: "a partial sum: rows", at: 0, values: rows },
    { name: "a partial sum: dense", at: denseAt, values: dense },
  ];
  return sum.merge(weightOf(members.map(({ n }) => ({ size: n }))), members.length, parts);
}

function accumulate(
  context: RoundContext,
  weightOf: Weigh,
  rule: (share: number) => SegmentRule,
  { minContributors = 1, clip = Infinity }: SegmentMeansOptions,
  memory: Memory,
): Accumulator {
  const { layout, global, clients } = context;
  const roll = rollCall(context);
  const denseAt = layout.r * layout.width;
  const bounds = { length: denseAt + layout.denseSize, largestValue: LARGEST_DELTA, totalWeight: weightOf(clients) };
  const sum = new OrderFreeSum(bounds, { spare: memory.spare });
  memory.spare = undefined;
  function* fold({ clientId, n, delta }: Update): Work<void> {
    const { rows, dense } = encodingOf(delta);
    const parts = [
      { name: `the update of client ${clientId}: rows`, at: 0, values: rows },
      { name: `the update of client ${clientId}: dense`, at: denseAt, values: dense },
    ];
    const norm = clip === Infinity ? 0 : yield* updateNorm(delta);
    yield* sum.add(weightOf([{ size: n }]), parts, scaleOf(norm));
  }
  const scaleOf = (norm: number) => (norm > clip ? clip / norm : 1);
  return {
    folds: true,
    partialSums: {
      resolution: sum.resolution,
      largestValue: LARGEST_DELTA,
      needsNorm: clip < Infinity,
      weigh(update) {
        roll.requireExpected(update);
        return weightOf([{ size: update.n }]) * (clip === Infinity ? 1 : scaleOf(heldNorm(update)));
      },
      merge: (partial) => inTurns(roll.admitAll(partial.members, mergePartial(sum, partial, weightOf, denseAt))),
    },
    add: (update) => inTurns(roll.admit(update, fold(update))),
    finish() {
      const next = { ...global, rows: global.rows.slice(), dense: global.dense.slice() };
      const all = weightOf(roll.reportedFrom(0));
      const held = roll.tooFew(minContributors);
      for (const { from, to } of all > 0 ? segments(layout.tiers) : []) {
        if (held.includes(to)) continue;
        const at = from * layout.width;
        const target = next.rows.subarray(at, to * layout.width);
        const trained = weightOf(roll.reportedFrom(to));
        const { keep, step } = rule(trained / all);
        // Skipped for 1, so that kept values keep their bytes.
        if (keep !== 1) for (const [index, value] of target.entries()) target[index] = keep * value;
        if (trained > 0) sum.addMeanTo(target, at, trained / step);
      }
      if (all > 0 && !held.includes("dense")) sum.addMeanTo(next.dense, denseAt, all);
      memory.spare = sum;
      return { global: next, coverage: roll.coverage(), held };
    },
  };
}
