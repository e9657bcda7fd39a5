import { realpathSync } from "node:fs";
import { basename } from "node:path";
import { pathToFileURL } from "node:url";
import { ConfigError, type ConfigIssue } from "../errors.ts";
import { hashModule } from "./module-files.ts";
import { nearest } from "./nearest.ts";
import { type OwnPolicy, ownPolicyOf, POLICY_KEYS, type PolicyKey, splitModule } from "./own-policy-spec.ts";
import { isAggregation, type FileConfig } from "./schema.ts";

/** What each kind of policy is, to follow "is" and "must return". */
const KINDS: Readonly<Record<PolicyKey, { readonly what: string; fits(value: unknown): boolean }>> = {
  selection: { what: "a selection: a function", fits: (value) => typeof value === "function" },
  rankAssignment: { what: "a rank assignment: a function", fits: (value) => typeof value === "function" },
  aggregation: { what: "an aggregation: an object with begin and distribute", fits: isAggregation },
};

/**
 * Loads the policies of one's own that a config names. This runs their code: call it only for a config that has no other problem,
 * and, if it comes from a record, once its code is known to be named on this machine. Throws a ConfigError with every policy that
 * cannot be loaded.
 */
export async function loadOwnPolicies(config: FileConfig): Promise<FileConfig> {
  const { strategy } = config;
  const outcomes = await Promise.all(POLICY_KEYS.map(async (key) => [key, await outcomeOf(key, ownPolicyOf(strategy[key]))] as const));
  const issues = outcomes.flatMap(([, outcome]) => (outcome && "path" in outcome ? [outcome] : []));
  if (issues.length > 0) throw new ConfigError(issues);
  const loaded = Object.fromEntries(outcomes.filter(([, outcome]) => outcome)) as Partial<FileConfig["strategy"]>;
  return { ...config, strategy: { ...strategy, ...loaded } };
}

/** The same for one policy. */
export async function loadOwnPolicy(key: PolicyKey, own: OwnPolicy): Promise<OwnPolicy> {
  const outcome = await outcomeOf(key, own);
  if (outcome && !("path" in outcome)) return outcome;
  throw new ConfigError(outcome ? [outcome] : []);
}

async function outcomeOf(key: PolicyKey, own: OwnPolicy | undefined): Promise<OwnPolicy | ConfigIssue | undefined> {
  if (!own) return undefined;
  const made = await load(key, own);
  return "value" in made ? { ...own, ...made } : { path: `strategy.${key}${own.options ? ".module" : ""}`, message: made.problem };
}

type Made = Required<Pick<OwnPolicy, "value" | "files">>;

interface Problem {
  readonly problem: string;
}

async function load(key: PolicyKey, { module, options }: OwnPolicy): Promise<Made | Problem> {
  const { file, name } = splitModule(module) ?? { file: module, name: "default" };
  const { exports, files, problem } = await loadOnce(file);
  if (!exports) return { problem };
  const { what, fits } = KINDS[key];
  const value = exports[name];
  if (value === undefined) return { problem: missingExport(file, name, Object.keys(exports)) };
  if (!options) {
    const hint = typeof value === "function" ? `; if it returns one, write { module: ${module} }, with its options` : "";
    return fits(value) ? { value, files } : { problem: `${name} in ${file} is ${describe(value)}, not ${what}${hint}` };
  }
  if (typeof value !== "function") {
    const hint = fits(value) ? `; without options, write ${module}` : "";
    return {
      problem: `${name} in ${file} is ${describe(value)}, and must be a function that takes the options and returns ${what}${hint}`,
    };
  }
  try {
    const made: unknown = value(options);
    return fits(made) ? { value: made, files } : { problem: `${name} in ${file} must return ${what}; it returned ${describe(made)}` };
  } catch (error) {
    return { problem: `${name} in ${file} threw ${describeThrown(error, file)} when it was called with its options` };
  }
}

interface Loaded extends Pick<Made, "files"> {
  /** Undefined if the file cannot be loaded, which `problem` explains. */
  readonly exports?: Readonly<Record<string, unknown>>;
  readonly problem: string;
}

/** A process loads a module once, as Node does: its hashes are those of the code that runs, also if the file changes meanwhile. */
const known = new Map<string, Promise<Loaded>>();

function loadOnce(file: string): Promise<Loaded> {
  const loading = known.get(file) ?? loadModule(file);
  known.set(file, loading);
  return loading;
}

async function loadModule(file: string): Promise<Loaded> {
  try {
    const real = realpathSync(file);
    const files = await hashModule(real);
    const exports = (await import(pathToFileURL(real).href)) as Readonly<Record<string, unknown>>;
    return { exports, files, problem: "" };
  } catch (error) {
    return { files: {}, problem: `${file} cannot be loaded: ${describeThrown(error, file)}` };
  }
}

function missingExport(file: string, name: string, exported: readonly string[]): string {
  const meant = nearest(name, exported);
  if (meant !== undefined) return `${file} has no export ${name}; did you mean ${meant}?`;
  return `${file} has no export ${name}; ${exported.length > 0 ? `it has ${exported.join(", ")}` : "it exports nothing"}`;
}

function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (value instanceof Promise) return "a promise";
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

/** The error, and the line of the file in which it was thrown, if that is known. */
function describeThrown(error: unknown, file: string): string {
  if (!(error instanceof Error)) return String(error);
  const { code, stack = "", message } = error as NodeJS.ErrnoException;
  if (code === "ENOENT") return "there is no such file";
  if (code === "ERR_UNKNOWN_FILE_EXTENSION") return `this version of Node (${process.version}) cannot run it; write it as .mjs`;
  const isUnclear = error instanceof SyntaxError && !message.includes("requested module");
  const line = new RegExp(`${escape(basename(file))}:(\\d+)`).exec(stack)?.[1];
  const remedy = code === "ERR_MODULE_NOT_FOUND" && message.includes("'prelort'") ? "; install it there: npm install prelort" : "";
  return `${error.name}: ${message.split("\n")[0]}${remedy}${line === undefined ? (isUnclear ? "; node --check shows where" : "") : ` (line ${line})`}`;
}

function escape(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}
