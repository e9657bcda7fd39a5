import { basename } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { camelKeys, snakeKeys, toCamel } from "../base/case.ts";
import type { Problem } from "./check.ts";
import { splitModule } from "./own-policy-spec.ts";
import { aggregationSpec, rankAssignmentSpec, selectionSpec, updateBoundSpec } from "./policy-specs.ts";
import { common } from "./sections.ts";
import { serverOptimizerSpec } from "./server-optimizer-spec.ts";
import { isMap, type Path, valueAt, withoutValueAt } from "./tree.ts";

/* Configs recorded by earlier versions of prelort, which had other options: runs that are the same must compare as equal. */

/** Removed options, with the value that had no effect. */
const REMOVED: readonly { readonly path: Path; readonly harmless: unknown }[] = [{ path: ["fit", "batchedTruncations"], harmless: false }];

/** A recorded config, with camelCase keys, without removed options; `problems` names those that had an effect. */
export function withoutRemoved(config: unknown): { readonly value: unknown; readonly problems: readonly Problem[] } {
  const present = REMOVED.filter(({ path }) => valueAt(config, path) !== undefined);
  const value = present.reduce((rest, { path }) => withoutValueAt(rest, path), config);
  const problems = present
    .filter(({ path, harmless }) => !isDeepStrictEqual(valueAt(config, path), harmless))
    .map(({ path, harmless }): Problem => {
      const message = `is ${JSON.stringify(valueAt(config, path))} here, and this version of prelort no longer has this option: it works as ${JSON.stringify(harmless)}; use the version that recorded the run`;
      return { path, at: "value", message };
    });
  return { value, problems };
}

const strategySpecs = {
  selection: selectionSpec,
  rankAssignment: rankAssignmentSpec,
  aggregation: aggregationSpec,
  serverOptimizer: serverOptimizerSpec,
  updateBound: updateBoundSpec,
};

/**
 * A recorded config in a form that compares across versions and folders: missing options have their defaults, and removed ones are left out where
 * they had no effect. Invalid sections are kept as they are.
 */
export function comparableConfig(recorded: unknown): unknown {
  if (!isMap(recorded)) return recorded;
  // Keys of lora are PEFT's, and the same in both spellings.
  const camel = Object.fromEntries(
    Object.entries(recorded).map(([key, value]) => [toCamel(key), key === "lora" ? value : camelKeys(value)]),
  );
  const { value, problems } = withoutRemoved(camel);
  const { strategy, ...sections } = (problems.length > 0 ? camel : value) as Readonly<Record<string, unknown>>;
  const policies = isMap(strategy) ? withDefaults(withoutFolders(strategy), strategySpecs) : strategy;
  return snakeKeys({ ...withDefaults(sections, common), ...(strategy !== undefined && { strategy: policies }) });
}

/** A policy's own file may be elsewhere: it counts by its name, and its content is compared by hash. */
function withoutFolders(strategy: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const entries = Object.entries(strategy).map(([key, policy]) => {
    if (splitModule(policy)) return [key, basename(policy as string)];
    return [key, isMap(policy) && typeof policy["module"] === "string" ? { ...policy, module: basename(policy["module"]) } : policy];
  });
  return Object.fromEntries(entries) as Readonly<Record<string, unknown>>;
}

interface Parser {
  safeParse(value: unknown): { readonly success: boolean; readonly data?: unknown };
}

/** Keys without a default stay missing. */
function withDefaults(values: Readonly<Record<string, unknown>>, schemas: Readonly<Record<string, Parser>>): Record<string, unknown> {
  const keys = [...new Set([...Object.keys(values), ...Object.keys(schemas)])];
  const entries = keys.map((key) => {
    const parsed = schemas[key]?.safeParse(values[key]);
    return [key, parsed?.success ? parsed.data : values[key]];
  });
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
}
