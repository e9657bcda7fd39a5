import type { Adapter } from "../adapter/adapter.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import { RunFailedError } from "../errors.ts";
import type { Aggregation } from "./strategy.ts";
import { distribute } from "./validate-policy-output.ts";

/**
 * What a client of rank r is sent for a fit: what the aggregation distributes and, if the components above its rank are to act
 * (`actingTail` above 0), those as merged.
 */
export function sentForFit(aggregation: Aggregation, actingTail: number, global: Adapter, layout: AdapterLayout, r: number): Adapter {
  const adapter = distribute(aggregation, global, layout, r);
  if (actingTail === 0 || r === layout.r) return adapter;
  if (adapter.merged) throw new RunFailedError("fit.acting_tail cannot be combined with an aggregation that merges into the base model");
  return { ...adapter, merged: { rows: global.rows.subarray(r * layout.width), ends: [] } };
}
