import { valueHere } from "./names-elsewhere.ts";
import type { Problem } from "./check.ts";
import { isMap, withValueAt } from "./tree.ts";

/*
 * `strategy: prelort`, or `strategy: { name: prelort, … }` with any of its other keys: PreLort as we read it, in one word. It
 * stands for the sections that it expands to, which are what a run records.
 */

export const NAME = "prelort";
const AGGREGATION = { name: "segment-wise" };
/** Nested training: every truncation on each batch, all with the same weight. */
const FIT: Readonly<Record<string, unknown>> = { objective: "sum", fullWeight: null };
const RANKS = { name: "distribution", shape: "uniform" };

/** A config, with camelCase keys, in which the name of a strategy is replaced by what it stands for. */
export function withNamedStrategy(config: unknown): { readonly value: unknown; readonly problems: readonly Problem[] } {
  const strategy = isMap(config) ? config["strategy"] : undefined;
  const { name, ...given } = isMap(strategy) ? strategy : { name: strategy };
  if (!isMap(config) || name === undefined) return { value: config, problems: [] };
  const at = isMap(strategy) ? ["strategy", "name"] : ["strategy"];
  const expanded = withValueAt(config, ["strategy"], { rankAssignment: RANKS, aggregation: AGGREGATION, ...given });
  if (name !== NAME) {
    const message = `must be ${NAME}, the only strategy with a name, or a map of policies, such as { aggregation: { name: flora } }; got ${JSON.stringify(name)}${hereFor(name)}`;
    return { value: expanded, problems: [{ path: at, at: "value", message }] };
  }
  const { fit = {} } = config;
  return {
    value: isMap(fit) ? { ...(expanded as object), fit: { ...FIT, ...fit } } : expanded,
    problems: "aggregation" in given ? [{ path: ["strategy", "aggregation"], at: "key", message: CONFLICT }] : [],
  };
}

const CONFLICT = `is segment-wise in strategy.name: ${NAME}; leave one of the two out`;

/** `strategy: FedAdam` has the form that Flower's classes suggest. */
function hereFor(name: unknown): string {
  const here = typeof name === "string" ? valueHere(name) : undefined;
  return here === undefined ? "" : `; here it is ${here}`;
}
