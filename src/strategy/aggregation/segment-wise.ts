import { prefix } from "../../adapter/adapter.ts";
import { segments } from "../../adapter/segments.ts";
import { LARGEST_DELTA } from "../../adapter/update.ts";
import { OrderFreeSum } from "../../tensor/order-free-sum.ts";
import type { Accumulator, Aggregation, RankedClient, RoundContext } from "../strategy.ts";
import { rollCall } from "./roll-call.ts";

export interface SegmentWiseOptions {
  /** w_k: "examples" weighs a client by n_k, its training examples; "uniform" weighs all alike. */
  readonly weights?: "examples" | "uniform";
}

/**
 * Segment-wise aggregation: "averages only over clients contributing to each rank segment, avoiding dilution from
 * zero-padded lower-rank clients" (PreLort, https://arxiv.org/abs/2606.15963). With ρ the tiers, segment
 * m = components [ρ(m-1), ρ(m)), and S_m = the clients that reported and have r_k ≥ ρ(m):
 *
 *     A[seg m] ← A[seg m] + Σ_{k∈S_m} w_k·ΔA_k[seg m] / Σ_{k∈S_m} w_k          likewise the columns of B
 *
 * Our reading, where the paper's abstract leaves it open: a segment that nobody trained keeps its value, to the
 * byte (A = B = 0 is a stationary point, so a zeroed segment would never learn again). `modules_to_save` are
 * averaged over all that reported. Memory is one float64 per value, however many clients report.
 */
export function segmentWise({ weights = "examples" }: SegmentWiseOptions = {}): Aggregation {
  const weigh = weights === "uniform" ? () => 1 : (client: Pick<RankedClient, "size">) => client.size;
  return {
    policy: { name: "segment-wise", weights },
    distribute: prefix,
    begin: (context) => accumulate(context, (clients) => clients.reduce((sum, client) => sum + weigh(client), 0)),
  };
}

function accumulate(context: RoundContext, weightOf: (clients: readonly Pick<RankedClient, "size">[]) => number): Accumulator {
  const { layout, global, clients } = context;
  const roll = rollCall(context);
  const denseAt = layout.r * layout.width;
  const sum = new OrderFreeSum({ length: denseAt + layout.denseSize, largestValue: LARGEST_DELTA, totalWeight: weightOf(clients) });
  return {
    add(update) {
      roll.require(update);
      const { rows, dense } = update.delta;
      sum.add(weightOf([{ size: update.n }]), [
        { at: 0, values: rows },
        { at: denseAt, values: dense },
      ]);
      roll.tick(update);
    },
    finish() {
      const next = { r: layout.r, rows: global.rows.slice(), dense: global.dense.slice() };
      for (const { from, to } of segments(layout.tiers)) {
        const at = from * layout.width;
        sum.addMeanTo(next.rows.subarray(at, to * layout.width), at, weightOf(roll.reportedFrom(to)));
      }
      sum.addMeanTo(next.dense, denseAt, weightOf(roll.reportedFrom(0)));
      return { global: next, coverage: roll.coverage() };
    },
  };
}
