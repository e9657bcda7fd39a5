import { ConfigError } from "../errors.ts";
import { withPolicy } from "../strategy/policy.ts";
import type { Aggregation, RankAssigner, Selection } from "../strategy/strategy.ts";
import { nameOf, type OwnPolicy, type PolicyKey } from "./own-policy-spec.ts";

/* Policies of one's own as a run uses them: what their file exports, with a description by which the record can name that file. */

export function ownSelection(own: OwnPolicy): Selection {
  const select = valueOf("selection", own) as Selection;
  return withPolicy(policyOf(own), (context) => select(context));
}

export function ownRankAssignment(own: OwnPolicy): RankAssigner {
  const assign = valueOf("rankAssignment", own) as RankAssigner;
  const { revise, fitOptions } = assign;
  const described = withPolicy(policyOf(own), (...asked: Parameters<RankAssigner>) => assign(...asked));
  return Object.assign(described, { ...(revise && { revise: revise.bind(assign) }), ...optionsOf(assign, fitOptions) });
}

/** Calls the methods of the exported object, which may be of a class. */
export function ownAggregation(own: OwnPolicy): Aggregation {
  const inner = valueOf("aggregation", own) as Aggregation;
  const { distributeTo, present, addsUp, readsSpool, fitOptions } = inner;
  return {
    policy: policyOf(own),
    begin: (context) => inner.begin(context),
    distribute: (...asked) => inner.distribute(...asked),
    ...(distributeTo && { distributeTo: distributeTo.bind(inner) }),
    ...(present && { present: present.bind(inner) }),
    ...(addsUp && { addsUp }),
    ...(readsSpool && { readsSpool }),
    ...optionsOf(inner, fitOptions),
  };
}

function optionsOf(policy: object, fitOptions: Aggregation["fitOptions"]): Pick<Aggregation, "fitOptions"> {
  if (fitOptions === undefined) return {};
  return { fitOptions: typeof fitOptions === "function" ? fitOptions.bind(policy) : fitOptions };
}

/** All but the code. */
function policyOf({ module, options, files }: OwnPolicy) {
  return { name: nameOf({ module }), module, ...(options && { options }), ...(files && { files }) };
}

function valueOf(key: PolicyKey, { module, value }: OwnPolicy): unknown {
  if (value !== undefined) return value;
  const message = `is ${module}, which has not been loaded: use the config that loadConfig returns`;
  throw new ConfigError([{ path: `strategy.${key}`, message }]);
}
