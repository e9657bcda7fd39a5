import { formatPath, type Problem } from "./check.ts";
import { isMap, withoutValueAt, withValueAt } from "./tree.ts";
import { placeKey, readKey, readYamlValue, type Finding, type Place, type YamlSource } from "./yaml-source.ts";

/** An assignment `key.path=value`, and the option of a command that gave it. */
export interface Assignment {
  readonly assignment: string;
  readonly option: string;
  /** Where another file has it, such as a comparison. */
  readonly writtenAt?: { readonly location: string; readonly folder: string } | undefined;
}

/** How to quote a text that YAML would read as a map or a list, such as the template `{gloss}`. */
function quoteHint(assignment: string): string {
  const [key = "", ...rest] = assignment.split("=");
  return `; quote it for YAML: --set '${key}=${JSON.stringify(rest.join("="))}'`;
}

/** The problem, with the spelling that a shell takes where `set` gave a map or a list for a string, or a policy's bare name. */
export function withShellSpelling(problem: Problem, set: readonly string[]): Problem {
  const { path, message, meant, isUnquoted } = problem;
  const key = formatPath(path, "snake_case");
  const assignment = set.findLast((given) => given.startsWith(`${key}=`));
  if (assignment === undefined) return problem;
  if (isUnquoted) return { ...problem, message: `${message}${quoteHint(assignment)}` };
  return meant === undefined ? problem : { ...problem, message: message.replace(meant, () => `--set '${key}=${meant}'`) };
}

/** A strategy's bare name stands for how it trains and aggregates: selection and ranks stay those of the config, so that methods can be compared. */
function beside({ value: config }: YamlSource, path: readonly string[], value: unknown): unknown {
  const before = isMap(config) ? config["strategy"] : undefined;
  if (path.join(".") !== "strategy" || typeof value !== "string" || !isMap(before)) return value;
  const { aggregation: _, serverOptimizer: __, ...kept } = before;
  return { ...kept, name: value };
}

/**
 * Applies `key.path=value` to the source: the path in YAML's spelling, the value read as YAML. Without a value the key is removed; its
 * name must be valid even where it is not set.
 */
export function override(source: YamlSource, { assignment, option, writtenAt }: Assignment): YamlSource {
  const [written = "", ...rest] = assignment.split("=");
  const location = option === "--set" ? `--set ${written}` : option;
  const place: Place = { location, inFile: false, order: Number.POSITIVE_INFINITY, ...writtenAt };
  const path: string[] = [];
  const misspellings: Finding[] = [];
  for (const key of written.split(".")) {
    const { name, misspelled } = readKey(key, path);
    path.push(name);
    if (misspelled) misspellings.push({ path: [...path], message: misspelled, place });
  }
  const refuse = (message: string): YamlSource => ({ ...source, findings: [...source.findings, { path, message, place }] });

  if (written === "" || rest.length === 0) return refuse(`must have the form key.path=value, got ${JSON.stringify(assignment)}`);
  const text = rest.join("=");
  const given = text.trim() === "" ? undefined : readYamlValue(text, path, place);
  if (given?.broken) {
    const hint = /^\s*[{[]/.test(text) ? quoteHint(assignment) : "";
    const findings = given.findings.map((finding) => ({ ...finding, message: `${finding.message}${hint}` }));
    return { ...source, findings: [...source.findings, ...findings] };
  }
  const value = given ? withValueAt(source.value, path, beside(source, path, given.value)) : withoutValueAt(source.value, path);
  if (value === undefined) return refuse("does not exist: a key on the way is neither a map nor a long enough list");

  const places = new Map([...source.places, ...(given?.places ?? [])]);
  path.forEach((_, depth) => {
    const key = placeKey(path.slice(0, depth + 1));
    if (depth === path.length - 1 || !places.has(key)) places.set(key, { key: place, value: place });
  });
  return { value, places, findings: [...source.findings, ...(given?.findings ?? []), ...misspellings], broken: false };
}
