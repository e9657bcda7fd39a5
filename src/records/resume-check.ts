import { comparableConfig } from "../config/recorded-config.ts";
import { type ConfigIssue, ConfigError } from "../errors.ts";

/** A value in a run's record that differs from what it would be now. */
export interface Difference {
  readonly path: string;
  readonly was: unknown;
  readonly is: unknown;
}

/** Do not affect bytes: names and paths (contents are compared by hash), number and timeouts of workers, trackers,
 * what is kept on disk. */
const FREE =
  /^(name|method|doubts|presents|remarks|index\.path|init_from\.path|config\.lora\.init_from|config\.(name|runs_dir|record_updates|keep_rounds|partial_sums|spool_bytes|track|workers\.(?!threads).*))(\.|$)/;
/** May affect bytes: another machine or torch version cannot be relied on to give the same numbers. */
const NOTED = /^(prelort|versions|device|variables)(\.|$)/;
/** What the run is made from, by SHA-256. */
const MADE_FROM = /^(policies|model|code|data)\./;
/** Follows from model, code and data: not worth reporting if those have changed. */
const FOLLOWS = /^(index|labels|eval_examples|truncated_examples|remarks|clients|base_parameters|layout|peft|left_out)(\.|$)/;

/**
 * Refuses to resume a run as a different one: throws a ConfigError with every recorded value that would be different now. Returns
 * the differences under which it may continue, which the caller records. `changedData` names the data files that changed, if
 * known.
 */
export function requireSameRun(recorded: unknown, now: object, changedData: readonly string[] = []): readonly Difference[] {
  const plain = withComparableConfig(JSON.parse(JSON.stringify(now)) as Record<string, unknown>);
  const record = withComparableConfig(recorded as Record<string, unknown>);
  if ("model" in plain && "index" in record && !("model" in record)) throw new ConfigError([OLD_RECORD]);
  const all = Object.entries(record).flatMap(([key, was]) => (key in plain ? differences(key, was, plain[key]) : []));
  const refused = all.filter(({ path }) => !FREE.test(path) && !NOTED.test(path));
  const causes = refused.some(({ path }) => MADE_FROM.test(path)) ? refused.filter(({ path }) => !FOLLOWS.test(path)) : refused;
  if (causes.length > 0) throw new ConfigError(causes.slice(0, MOST_TOLD).map((difference) => describe(difference, changedData)));
  return all.filter(({ path }) => NOTED.test(path));
}

function withComparableConfig(record: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return "config" in record ? { ...record, config: comparableConfig(record["config"]) } : record;
}

const OLD_RECORD: ConfigIssue = {
  path: "name",
  message:
    "the run was recorded by an earlier version of prelort, which did not record its model and data by their hashes: " +
    "resume it with that version, or start a run under another name",
};

const MOST_TOLD = 20;

function describe(difference: Difference, changedData: readonly string[]): ConfigIssue {
  const { path, was, is } = difference;
  const file = /^(?:model\.(weights|tokenizer|config)|(code))\.(.+)$/.exec(path);
  if (file) {
    const [, part, code, name = ""] = file;
    const subject = code ? `module ${name} of the task` : `${part} file ${name} of the model`;
    return { path: code ? "model.task" : "model.name_or_path", message: `${changed(subject, was, is)}: put it back, or ${START_ANOTHER}` };
  }
  const [, policy, policyFile = ""] = /^policies\.(\w+)\.(.+)$/.exec(path) ?? [];
  if (policy !== undefined) {
    return { path: `strategy.${policy}`, message: `${changed(policyFile, was, is)}: put it back, or ${START_ANOTHER}` };
  }
  if (path === "model.commit") {
    const message = `led to commit ${show(was)} when the run began and leads to ${show(is)} now`;
    return { path: "model.name_or_path", message: `${message}: set model.revision to the first, or ${START_ANOTHER}` };
  }
  if (path === "data.sha256") {
    const files = changedData.length > 0 ? changedData.join("; ") : changed("the data", was, is);
    return { path: "data.path", message: `${files}: put back what the run began with, or ${START_ANOTHER}` };
  }
  const message = `was ${show(was)} when the run began and is ${show(is)} now, which would make it a different run`;
  const continuation =
    path === "config.rounds" && Number(is) > Number(was) ? "; with lora.init_from: RUN it starts from this run's adapter" : "";
  if (path.startsWith("config."))
    return { path: path.slice("config.".length), message: `${message}: start it under another name${continuation}` };
  return { path, message: `${message}: check that data and model are those that the run began with` };
}

const START_ANOTHER = "start a run under another name";

/** The files of policies of one's own that changed, each described once; `was` and `is` have them as run.json does. */
export function changedPolicies(was: unknown, is: unknown): readonly string[] {
  const found = differences("policies", was ?? {}, is ?? {}).map((difference) => describe(difference, []).message);
  return [...new Set(found.map((message) => message.split(": ")[0] as string))];
}

/** How a file changed, by its SHA-256 before and now; undefined where it is missing. */
export function changed(subject: string, was: unknown, is: unknown): string {
  if (was === undefined) return `${subject} did not exist when the run began`;
  if (is === undefined) return `${subject} is missing`;
  return `${subject} has changed since the run began (SHA-256 expected ${show(was)}, got ${show(is)})`;
}

/** The values at and below `path` that differ, each with its path. */
export function differences(path: string, was: unknown, is: unknown): readonly Difference[] {
  if (!isTree(was) || !isTree(is)) return JSON.stringify(was) === JSON.stringify(is) ? [] : [{ path, was, is }];
  const keys = [...new Set([...Object.keys(was), ...Object.keys(is)])];
  return keys.flatMap((key) => differences(`${path}.${key}`, was[key], is[key]));
}

/** Compared key by key; a list of numbers or words is reported whole. */
function isTree(value: unknown): value is Readonly<Record<string, unknown>> {
  if (Array.isArray(value)) return value.some((item) => typeof item === "object");
  return typeof value === "object" && value !== null;
}

function show(value: unknown): string {
  if (typeof value === "string" && /^[0-9a-f]{40,}$/.test(value)) return `${value.slice(0, 12)}…`;
  const text = value === undefined ? "nothing" : JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}
