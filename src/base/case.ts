/*
 * YAML, the wire and the run's records are snake_case, the TypeScript API is camelCase. Digits do not start a word, and GiB is a
 * single word, so that both directions are inverse for all of our keys.
 */

export function toCamel(key: string): string {
  if (!key.includes("_")) return key;
  return key.replace(/_gib$/, "GiB").replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/** A key that begins with a capital is nobody's, and stays as it is written. */
export function toSnake(key: string): string {
  if (/^[A-Z]/.test(key)) return key;
  return key.replace(/GiB$/, "_gib").replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** A copy of a JSON-like value with every key of every object in camelCase. */
export function camelKeys(value: unknown): unknown {
  return mapKeys(value, toCamel);
}

/** A copy of a JSON-like value with every key of every object in snake_case. */
export function snakeKeys(value: unknown): unknown {
  return mapKeys(value, toSnake);
}

/** Maps with keys of somebody else's, whose spelling is kept. */
const FOREIGN: ReadonlySet<string> = new Set(["runtimeEnv", "runtime_env", "resources"]);
/** None of our values is nested deeper. Deeper values, which could exhaust the stack, are kept unchanged for a schema to refuse. */
const MAX_DEPTH = 100;

function mapKeys(value: unknown, rename: (key: string) => string, depth = MAX_DEPTH): unknown {
  if (typeof value !== "object" || value === null || depth === 0) return value;
  if (Array.isArray(value)) return value.map((item) => mapKeys(item, rename, depth - 1));
  // A loop: the records of a long run have hundreds of thousands of keys.
  const copy: Record<string, unknown> = {};
  for (const [key, item] of Object.entries(value)) {
    const renamed = FOREIGN.has(key) ? item : mapKeys(item, rename, depth - 1);
    const name = rename(key);
    if (name === "__proto__") Object.defineProperty(copy, name, { value: renamed, configurable: true, enumerable: true, writable: true });
    else copy[name] = renamed;
  }
  return copy;
}
