import { ConfigError } from "../errors.ts";
import { withPolicy } from "../strategy/policy.ts";
import type { Aggregation, RankAssigner, Selection } from "../strategy/strategy.ts";
import { nameOf, type OwnPolicy, type PolicyKey } from "./own-policy-spec.ts";

/* Policies of one's own as a run uses them: what their file exports, with a description by which the record can name that file. */

export function ownSelection(own: OwnPolicy): Selection {
  const select = valueOf<Selection>("selection", own);
  return withPolicy(policyOf(own), (context) => select(context));
}

export function ownRankAssignment(own: OwnPolicy): RankAssigner {
  const assign = valueOf<RankAssigner>("rankAssignment", own);
  const { revise, fitOptions } = assign;
  const described = withPolicy(policyOf(own), (...asked: Parameters<RankAssigner>) => assign(...asked));
  return Object.assign(described, { ...(revise && { revise: revise.bind(assign) }), ...(fitOptions && { fitOptions }) });
}

/** Calls the methods of the exported object, which may be of a class. */
export function ownAggregation(own: OwnPolicy): Aggregation {
  const inner = valueOf<Aggregation>("aggregation", own);
  const { present, addsUp, readsSpool, fitOptions } = inner;
  return {
    policy: policyOf(own),
    begin: (context) => inner.begin(context),
    distribute: (...asked) => inner.distribute(...asked),
    ...(present && { present: present.bind(inner) }),
    ...(addsUp && { addsUp }),
    ...(readsSpool && { readsSpool }),
    ...(fitOptions && { fitOptions }),
  };
}

/** All but the code. */
function policyOf({ value: _, ...own }: OwnPolicy) {
  return { name: nameOf(own), ...own };
}

function valueOf<T>(key: PolicyKey, { module, value }: OwnPolicy): T {
  if (value !== undefined) return value as T;
  const message = `is ${module}, which has not been loaded: use the config that loadConfig returns`;
  throw new ConfigError([{ path: `strategy.${key}`, message }]);
}
