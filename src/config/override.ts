import { withoutValueAt, withValueAt } from "./tree.ts";
import { placeKey, readKey, readYamlValue, type Finding, type Place, type YamlSource } from "./yaml-source.ts";

/** An assignment `key.path=value`, and the option of a command that it was given by. */
export interface Assignment {
  readonly assignment: string;
  readonly option: string;
}

/**
 * The source with `key.path=value` worked in: the path in YAML's spelling, the value read as YAML. Without a value the key
 * goes; where it is not there, its name must be right all the same.
 */
export function override(source: YamlSource, { assignment, option }: Assignment): YamlSource {
  const [written = "", ...rest] = assignment.split("=");
  const place: Place = { location: option === "--set" ? `--set ${written}` : option, inFile: false, order: Number.POSITIVE_INFINITY };
  const path: string[] = [];
  const misspellings: Finding[] = [];
  for (const key of written.split(".")) {
    const { name, misspelt } = readKey(key, path);
    path.push(name);
    if (misspelt) misspellings.push({ path: [...path], message: misspelt, place });
  }
  const refuse = (message: string): YamlSource => ({ ...source, findings: [...source.findings, { path, message, place }] });

  if (written === "" || rest.length === 0) return refuse(`must read key.path=value, got ${JSON.stringify(assignment)}`);
  const text = rest.join("=");
  const given = text.trim() === "" ? undefined : readYamlValue(text, path, place);
  if (given?.broken) return { ...source, findings: [...source.findings, ...given.findings] };
  const value = given ? withValueAt(source.value, path, given.value) : withoutValueAt(source.value, path);
  if (value === undefined) return refuse("leads nowhere: something on the way is neither a map nor a list that long");

  const places = new Map([...source.places, ...(given?.places ?? [])]);
  path.forEach((_, depth) => {
    const key = placeKey(path.slice(0, depth + 1));
    if (depth === path.length - 1 || !places.has(key)) places.set(key, { key: place, value: place });
  });
  return { value, places, findings: [...source.findings, ...(given?.findings ?? []), ...misspellings], broken: false };
}
