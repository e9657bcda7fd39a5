import { isAlias, isMap, isNode, isScalar, isSeq, LineCounter, parseDocument } from "yaml";
import { toCamel, toSnake } from "../base/case.ts";
import { keepsSpelling } from "./check.ts";
import type { Path } from "./tree.ts";

/** Where something was written: in the file or in `--set`. `order` sorts places into the order of reading. */
export interface Place {
  readonly location: string;
  readonly inFile: boolean;
  /** What paths there are relative to, if it is another file than the config's. */
  readonly folder?: string;
  readonly order: number;
}

/** A problem found while reading. */
export interface Finding {
  readonly path: Path;
  readonly message: string;
  readonly place: Place;
}

/** The content of a YAML text: its value with camelCase keys, and where each key and value was written. */
export interface YamlSource {
  readonly value: unknown;
  /** By `placeKey` of the path. */
  readonly places: ReadonlyMap<string, { readonly key: Place; readonly value: Place }>;
  readonly findings: readonly Finding[];
  /** Whether the text is not YAML that we support, so that `value` is meaningless. */
  readonly broken: boolean;
}

export function readYaml(text: string, file: string): YamlSource {
  const lineCounter = new LineCounter();
  const placeAt = (offset: number): Place => {
    const { line, col } = lineCounter.linePos(offset);
    return { location: `${file}:${line}:${col}`, inFile: true, order: offset };
  };
  return read(text, [], placeAt, lineCounter);
}

/** The value that an override gives to `path`: everything in it is located at `place`. */
export function readYamlValue(text: string, path: Path, place: Place): YamlSource {
  return read(text, path, () => place, new LineCounter());
}

/** The camelCase name of a key as written, and the problem with its spelling, if any. */
export function readKey(written: string, parent: Path): { readonly name: string; readonly misspelled: string | undefined } {
  if (keepsSpelling(parent)) return { name: written, misspelled: undefined };
  const name = toCamel(written);
  const snake = toSnake(name);
  return { name, misspelled: snake === written ? undefined : `${written} is not a key; did you mean ${snake}?` };
}

export function placeKey(path: Path): string {
  return JSON.stringify(path.map(String));
}

function read(text: string, root: Path, placeAt: (offset: number) => Place, lineCounter: LineCounter): YamlSource {
  const document = parseDocument(text, { prettyErrors: false, lineCounter });
  const places = new Map<string, { key: Place; value: Place }>();
  const faults: Finding[] = [...document.errors, ...document.warnings].map(({ message, pos }) => ({
    path: root,
    message,
    place: placeAt(pos[0]),
  }));
  const spellings: Finding[] = [];

  const visit = (node: unknown, path: Path): unknown => {
    if (isAlias(node))
      faults.push({ path, message: `aliases are not supported: write out the value of *${node.source}`, place: placeAt(startOf(node)) });
    if (isSeq(node)) return node.items.map((item, index) => visitEntry(item, item, [...path, index]));
    if (!isMap(node)) return isScalar(node) ? node.value : null;
    const entries = node.items.map(({ key, value }) => {
      const { name, misspelled } = readKey(isScalar(key) ? String(key.value) : String(key), path);
      if (misspelled) spellings.push({ path: [...path, name], message: misspelled, place: placeAt(startOf(key)) });
      return [name, visitEntry(key, value, [...path, name])];
    });
    return Object.fromEntries(entries);
  };
  const visitEntry = (key: unknown, value: unknown, path: Path): unknown => {
    places.set(placeKey(path), { key: placeAt(startOf(key)), value: placeAt(startOf(value ?? key)) });
    return visit(value, path);
  };

  const value = visit(document.contents, root);
  return { value, places, findings: [...faults, ...spellings], broken: faults.length > 0 };
}

function startOf(node: unknown): number {
  return (isNode(node) ? node.range?.[0] : undefined) ?? 0;
}
