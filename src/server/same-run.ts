import { type ConfigIssue, ConfigError } from "../errors.ts";

/** A place in a run's record where it differs from what is there now. */
export interface Difference {
  readonly path: string;
  readonly was: unknown;
  readonly is: unknown;
}

/** They decide no byte: where it lies, or what it began with, which is told by its hash, how many workers there are and how long they are waited for, what is kept on the way. */
const FREE =
  /^(name|method|doubts|index\.path|init_from\.path|config\.lora\.init_from|config\.(name|runs_dir|record_updates|spool_bytes|workers\.(?!threads).*))(\.|$)/;
/** They may decide some: the same numbers cannot be promised from another machine or another torch. */
const NOTED = /^(prelort|versions|device)(\.|$)/;

/**
 * Refuses to go on with a run as another: throws a ConfigError with everything that differs between what it recorded and what it
 * would be now, of what was recorded. Gives the differences under which it may go on, which are to be recorded.
 */
export function requireSameRun(recorded: unknown, now: object): readonly Difference[] {
  const plain: unknown = JSON.parse(JSON.stringify(now));
  const all = Object.entries(recorded as Record<string, unknown>).flatMap(([key, was]) =>
    key in (plain as object) ? differences(key, was, (plain as Record<string, unknown>)[key]) : [],
  );
  const refused = all.filter(({ path }) => !FREE.test(path) && !NOTED.test(path));
  if (refused.length > 0) throw new ConfigError(refused.slice(0, MOST_TOLD).map(describe));
  return all.filter(({ path }) => NOTED.test(path));
}

const MOST_TOLD = 20;

function describe({ path, was, is }: Difference): ConfigIssue {
  const isConfig = path.startsWith("config.");
  const message = `was ${show(was)} when the run began and is ${show(is)} now, which would make it another run`;
  if (isConfig) return { path: path.slice("config.".length), message: `${message}: start that under another name` };
  return { path, message: `${message}: see that the data and the model are those that it began with` };
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
  const text = value === undefined ? "nothing" : JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}
