import type { Adapter } from "../adapter/adapter.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import { callPolicy, namePolicy } from "../strategy/call-policy.ts";
import type { Aggregation } from "../strategy/strategy.ts";
import { requireShape } from "../strategy/validate-policy-output.ts";

/** What a client of rank r starts from, as the aggregation gives it. */
export function distribute(aggregation: Aggregation, global: Adapter, layout: AdapterLayout, r: number): Adapter {
  const subject = `${namePolicy("aggregation", aggregation)}'s distribute()`;
  const handed = callPolicy(subject, () => aggregation.distribute(global, layout, r));
  requireShape(subject, handed, r, layout);
  return handed;
}
