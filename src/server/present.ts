import type { Adapter } from "../adapter/adapter.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import type { Aggregation } from "../strategy/strategy.ts";
import { requireShape } from "./require-adapter.ts";

/** A global adapter as it is evaluated and saved: at rank R, with nothing merged into the base. */
export function present(aggregation: Pick<Aggregation, "present">, global: Adapter, layout: AdapterLayout): Adapter {
  if (!aggregation.present) return global;
  const presented = aggregation.present(global, layout);
  requireShape("the aggregation's present()", presented, layout.r, layout);
  return presented;
}
