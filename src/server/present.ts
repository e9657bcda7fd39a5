import type { Adapter } from "../adapter/adapter.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import { callPolicy, namePolicy } from "../strategy/call-policy.ts";
import type { Aggregation } from "../strategy/strategy.ts";
import { requireShape } from "../strategy/validate-policy-output.ts";

/** A global adapter as it is evaluated and saved: at rank R, with nothing merged into the base. */
export function present(aggregation: Pick<Aggregation, "present" | "policy">, global: Adapter, layout: AdapterLayout): Adapter {
  if (!aggregation.present) return global;
  const subject = `${namePolicy("aggregation", aggregation)}'s present()`;
  const presented = callPolicy(subject, () => aggregation.present?.(global, layout) as Adapter);
  requireShape(subject, presented, layout.r, layout);
  return presented;
}
