import type { Problem } from "./check.ts";
import { aggregationSpec, rankAssignmentSpec, selectionSpec } from "./policy-specs.ts";
import { valueAt } from "./tree.ts";

const KINDS = [
  { key: "selection", spec: selectionSpec, what: "a function" },
  { key: "rankAssignment", spec: rankAssignmentSpec, what: "a function" },
  { key: "aggregation", spec: aggregationSpec, what: "an object" },
] as const;

/** What stands in a record for code without a name. */
export const CUSTOM = "custom";

/**
 * The policies of a recorded config, its keys camelCase, that a script brought: its record has no more of them than a name.
 * `remedy`: what does know them.
 */
export function ownPolicies(config: unknown, remedy: string): readonly Problem[] {
  return KINDS.flatMap(({ key, spec, what }) => {
    const path = ["strategy", key];
    const name = valueAt(config, [...path, "name"]);
    if (typeof name !== "string" || spec.options.some((option) => option.shape.name.value === name)) return [];
    const named = name === CUSTOM || name === key ? "" : ` (${name})`;
    return [
      { path, at: "value", message: `is ${what} of a script${named}, which the run's record cannot hold: in that script use ${remedy}` },
    ];
  });
}
