import { comparableConfig } from "../config/recorded-config.ts";
import { type ConfigIssue, ConfigError } from "../errors.ts";

/** A place in a run's record where it differs from what is there now. */
export interface Difference {
  readonly path: string;
  readonly was: unknown;
  readonly is: unknown;
}

/** They decide no byte: where it lies, or what it began with, which is told by its hash, how many workers there are and how long they are waited for, what is kept on the way. */
const FREE =
  /^(name|method|doubts|remarks|index\.path|init_from\.path|config\.lora\.init_from|config\.(name|runs_dir|record_updates|spool_bytes|workers\.(?!threads).*))(\.|$)/;
/** They may decide some: the same numbers cannot be promised from another machine or another torch. */
const NOTED = /^(prelort|versions|device|variables)(\.|$)/;
/** What the run is made from, by SHA-256. */
const MADE_FROM = /^(model|code|data)\./;
/** What follows from it: of no interest where that has changed. */
const FOLLOWS = /^(index|labels|eval_examples|truncated_examples|remarks|clients|base_parameters|layout|peft|left_out)(\.|$)/;

/**
 * Refuses to go on with a run as another: throws a ConfigError with everything that differs between what it recorded and what it
 * would be now, of what was recorded. Gives the differences under which it may go on, which are to be recorded. `changedData` names
 * the files by which the data differ, where that is known.
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
    "resume it with that version, or start it again under another name",
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
  if (path === "model.commit") {
    const message = `led to commit ${show(was)} when the run began and leads to ${show(is)} now`;
    return { path: "model.name_or_path", message: `${message}: set model.revision to the first, or ${START_ANOTHER}` };
  }
  if (path === "data.sha256") {
    const files = changedData.length > 0 ? changedData.join("; ") : changed("the data", was, is);
    return { path: "data.path", message: `${files}: put back what the run began with, or ${START_ANOTHER}` };
  }
  const message = `was ${show(was)} when the run began and is ${show(is)} now, which would make it another run`;
  const goesOn = path === "config.rounds" && Number(is) > Number(was) ? "; with lora.init_from: RUN it starts from this run's adapter" : "";
  if (path.startsWith("config."))
    return { path: path.slice("config.".length), message: `${message}: start that under another name${goesOn}` };
  return { path, message: `${message}: see that the data and the model are those that it began with` };
}

const START_ANOTHER = "start a run under another name";

/** Of a file, by its SHA-256; undefined where it is not there. */
export function changed(subject: string, was: unknown, is: unknown): string {
  if (was === undefined) return `${subject} was not there when the run began`;
  if (is === undefined) return `${subject} is gone`;
  return `${subject} has changed since the run began (SHA-256 expected ${show(was)}, got ${show(is)})`;
}

function differences(path: string, was: unknown, is: unknown): readonly Difference[] {
  if (!isTree(was) || !isTree(is)) return JSON.stringify(was) === JSON.stringify(is) ? [] : [{ path, was, is }];
  const keys = [...new Set([...Object.keys(was), ...Object.keys(is)])];
  return keys.flatMap((key) => differences(`${path}.${key}`, was[key], is[key]));
}

/** A list of numbers or words reads better whole. */
function isTree(value: unknown): value is Readonly<Record<string, unknown>> {
  if (Array.isArray(value)) return value.some((item) => typeof item === "object");
  return typeof value === "object" && value !== null;
}

function show(value: unknown): string {
  if (typeof value === "string" && /^[0-9a-f]{40,}$/.test(value)) return `${value.slice(0, 12)}…`;
  const text = value === undefined ? "nothing" : JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}
