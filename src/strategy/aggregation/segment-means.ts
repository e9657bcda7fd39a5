import { prefix } from "../../adapter/adapter.ts";
import { segments } from "../../adapter/segments.ts";
import { encodingOf } from "../../adapter/travel.ts";
import { LARGEST_DELTA } from "../../adapter/update.ts";
import { OrderFreeSum } from "../../tensor/order-free-sum.ts";
import { inTurns } from "../../tensor/turns.ts";
import type { Accumulator, Aggregation, RankedClient, RoundContext } from "../strategy.ts";
import { rollCall } from "./roll-call.ts";

/** w_k: "examples" weighs a client by n_k, its training examples; "uniform" weighs all alike. */
export type Weights = "examples" | "uniform";

/** What becomes of a segment: next = keep·previous + step·(mean delta of the clients that trained it). */
export interface SegmentRule {
  readonly keep: number;
  readonly step: number;
}

/**
 * Aggregations that average deltas segment by segment and differ only in what becomes of a segment, given the
 * share Σ_{k∈S_m} w_k / Σ_k w_k of the reporting clients that train it. `modules_to_save` are averaged over all
 * that reported. A round in which nobody reported leaves everything as it was, to the byte. Memory is one
 * float64 per value, however many clients report.
 */
export function segmentMeans(weights: Weights, rule: (share: number) => SegmentRule): Pick<Aggregation, "begin" | "distribute"> {
  const weigh = weights === "uniform" ? () => 1 : (client: Pick<RankedClient, "size">) => client.size;
  const weightOf: Weigh = (clients) => clients.reduce((sum, client) => sum + weigh(client), 0);
  const memory: Memory = {};
  return { distribute: prefix, begin: (context) => accumulate(context, weightOf, rule, memory) };
}

/** The sum of a round that is over, whose memory the next one takes. */
interface Memory {
  spare?: OrderFreeSum | undefined;
}

type Weigh = (clients: readonly Pick<RankedClient, "size">[]) => number;

function accumulate(context: RoundContext, weightOf: Weigh, rule: (share: number) => SegmentRule, memory: Memory): Accumulator {
  const { layout, global, clients } = context;
  const roll = rollCall(context);
  const denseAt = layout.r * layout.width;
  const bounds = { length: denseAt + layout.denseSize, largestValue: LARGEST_DELTA, totalWeight: weightOf(clients) };
  const sum = new OrderFreeSum(bounds, { spare: memory.spare });
  memory.spare = undefined;
  return {
    folds: true,
    add(update) {
      const { rows, dense } = encodingOf(update.delta);
      const parts = [
        { name: `the update of client ${update.clientId}: rows`, at: 0, values: rows },
        { name: `the update of client ${update.clientId}: dense`, at: denseAt, values: dense },
      ];
      return inTurns(roll.admit(update, sum.add(weightOf([{ size: update.n }]), parts)));
    },
    finish() {
      const next = { ...global, rows: global.rows.slice(), dense: global.dense.slice() };
      const all = weightOf(roll.reportedFrom(0));
      for (const { from, to } of all > 0 ? segments(layout.tiers) : []) {
        const at = from * layout.width;
        const target = next.rows.subarray(at, to * layout.width);
        const trained = weightOf(roll.reportedFrom(to));
        const { keep, step } = rule(trained / all);
        // Not for 1, so that what is kept keeps its bytes.
        if (keep !== 1) for (const [index, value] of target.entries()) target[index] = keep * value;
        if (trained > 0) sum.addMeanTo(target, at, trained / step);
      }
      if (all > 0) sum.addMeanTo(next.dense, denseAt, all);
      memory.spare = sum;
      return { global: next, coverage: roll.coverage() };
    },
  };
}
