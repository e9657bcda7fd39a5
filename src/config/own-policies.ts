import type { Problem } from "./check.ts";
import { aggregationSpec, rankAssignmentSpec, selectionSpec } from "./policy-specs.ts";
import { valueAt } from "./tree.ts";

const KINDS = [
  { key: "selection", spec: selectionSpec, what: "a function" },
  { key: "rankAssignment", spec: rankAssignmentSpec, what: "a function" },
  { key: "aggregation", spec: aggregationSpec, what: "an object" },
] as const;

/** The recorded name of code without a name of its own. */
export const CUSTOM = "custom";

type Kind = (typeof KINDS)[number];

function isBuiltIn({ spec }: Kind, name: string): boolean {
  return spec.options.some((option) => option.shape.name.value === name);
}

/** The name under which a script's function is recorded: its own, unless a built-in policy has that name. */
export function ownName(key: Kind["key"], name: string | undefined): string {
  const isTaken = KINDS.some((kind) => kind.key === key && isBuiltIn(kind, name ?? ""));
  return name && !isTaken ? name : CUSTOM;
}

/**
 * The policies of a recorded config, with camelCase keys, that come from a script: the record has only their names. `remedy` is
 * what to call in the script instead.
 */
export function ownPolicies(config: unknown, remedy: string): readonly Problem[] {
  return KINDS.flatMap((kind) => {
    const { key, what } = kind;
    const path = ["strategy", key];
    const name = valueAt(config, [...path, "name"]);
    if (typeof name !== "string" || isBuiltIn(kind, name) || valueAt(config, [...path, "module"]) !== undefined) return [];
    const named = name === CUSTOM || name === key ? "" : ` (${name})`;
    return [
      { path, at: "value", message: `is ${what} from a script${named}, which the run's record cannot hold; use ${remedy} in that script` },
    ];
  });
}
