import { z } from "zod";
import { toCamel, toSnake } from "../base/case.ts";
import { isCredential, WHERE_CREDENTIALS_GO } from "./credentials.ts";
import { optionHere, valueHere } from "./names-elsewhere.ts";
import { nearest } from "./nearest.ts";
import { issuesOfForm, POLICY_KEYS } from "./own-policy-spec.ts";
import { homesOf, toJsonSchema } from "./reference/json-schema.ts";
import { valueAt, type Path } from "./tree.ts";

/** How keys are spelled: as in the TypeScript API or as in YAML. */
export type Spelling = "camelCase" | "snake_case";

/** A problem with the key at `path`, which is not allowed, or with its value. */
export interface Problem {
  readonly path: Path;
  readonly at: "key" | "value";
  readonly message: string;
  /** The map that was probably meant by a string, as YAML writes it and as the message quotes it: `{ name: flora }`. */
  readonly meant?: string;
  /** The value is a map or a list, and a string is needed, such as the template `{gloss}`. */
  readonly isUnquoted?: boolean;
}

export type Checked<T> =
  | { readonly value: T; readonly problems?: never }
  | { readonly value?: never; readonly problems: readonly Problem[] };

/** Validates a config and describes all of its problems in plain words. */
export function check<S extends z.ZodType>(schema: S, value: unknown, spelling: Spelling): Checked<z.output<S>> {
  /** What the schema that refused a value knows, by the message of the issue. */
  const told = new Map<string, readonly string[]>();
  const tell = (names: readonly string[]) => {
    const message = `told ${told.size}`;
    told.set(message, names);
    return message;
  };
  const result = schema.safeParse(value, {
    reportInput: true,
    error(issue) {
      // The only place where zod tells which schema refused a key or a value.
      if (issue.inst instanceof z.ZodDiscriminatedUnion) return tell(namesOf(issue.inst));
      if (issue.code === "unrecognized_keys" && issue.inst instanceof z.ZodObject) return tell(Object.keys(issue.inst.shape));
      return undefined;
    },
  });
  if (result.success) return { value: result.data };
  const problems = result.error.issues.flatMap(formsOfPolicy).flatMap((issue): Problem[] => {
    const path = issue.path as (string | number)[];
    const names = told.get(issue.message) ?? [];
    if (issue.code === "invalid_type" && typeof issue.input === "string") {
      return [withNameHint(describe(issue, path, issue.input), issue.input, names)];
    }
    if (issue.code !== "unrecognized_keys") return [describe(issue, path, issue.input)];
    const known = names.map((key) => spell([...path, key], spelling));
    const hints = issue.keys.map((key) => {
      const at = [...path, key];
      const homes = () => homesOf(toJsonSchema(schema), key).map((home) => formatPath(home, spelling));
      return hintFor(spell(at, spelling), path, known, () => homes().filter((home) => home !== formatPath(at, spelling)));
    });
    // All keys of a section, once for all the unknown ones in it.
    const listed = hints.indexOf(undefined);
    return issue.keys.map((key, index) => ({
      path: [...path, key],
      at: "key",
      message: hints[index] ?? (index === listed ? `is not a key; the keys are ${known.join(", ")}` : "is not a key"),
    }));
  });
  return { problems };
}

/** For a policy, the issues of the form that was meant. */
function formsOfPolicy(issue: z.core.$ZodIssue): readonly z.core.$ZodIssue[] {
  if (issue.code !== "invalid_union" || !("errors" in issue) || !isPolicy(issue.path)) return [issue];
  return issuesOfForm(issue.input, issue.errors).map((inner) => ({ ...inner, path: [...issue.path, ...inner.path] }));
}

function isPolicy([section, key, ...rest]: readonly PropertyKey[]): boolean {
  return section === "strategy" && POLICY_KEYS.some((policy) => policy === key) && rest.length === 0;
}

/** Such as `strategy.rank_assignment.ranks[3]`. */
export function formatPath(path: Path, spelling: Spelling): string {
  const keys = path.map((key, index) => (typeof key === "number" ? `[${key}]` : spell(path.slice(0, index + 1), spelling)));
  return keys.join(".").replaceAll(".[", "[");
}

/** Parses what formatPath wrote, in either spelling, into camelCase keys. */
export function parsePath(written: string): Path {
  const keys = written.split(/\.|(?=\[\d+\])/);
  return keys.reduce<Path>((path, key) => {
    const index = /^\[(\d+)\]$/.exec(key)?.[1];
    if (index !== undefined) return [...path, Number(index)];
    return [...path, keepsSpelling(path) ? key : toCamel(key)];
  }, []);
}

/** `lora` keeps PEFT's own spelling everywhere, and what a cluster is asked for keeps the cluster's. */
export function keepsSpelling(parent: Path): boolean {
  const [section, part, key = ""] = parent;
  return section === "lora" || (section === "workers" && part === "cluster" && ["resources", "runtimeEnv"].includes(String(key)));
}

function spell(path: Path, spelling: Spelling): string {
  const key = String(path.at(-1));
  return spelling === "camelCase" || keepsSpelling(path.slice(0, -1)) ? key : toSnake(key);
}

/** More, as of `name`, tell nothing. */
const MOST_HOMES = 3;

/** What an unknown key should have been, if one can tell. */
function hintFor(key: string, parent: Path, known: readonly string[], homes: () => readonly string[]): string | undefined {
  if (parent[0] === "track" && isCredential(key)) return `is not a key: ${WHERE_CREDENTIALS_GO}`;
  const here = optionHere(key) ?? valueHere(key);
  // A map within a section, such as a policy, has options of its own: what is like them elsewhere is not meant there.
  const isMeant = parent.length <= 1 || here?.startsWith(formatPath(parent, "snake_case"));
  if (here !== undefined && isMeant) return `is not a key; here it is ${here}`;
  const meant = nearest(toSnake(key), known) ?? nearest(key, known);
  if (meant !== undefined) return `is not a key; did you mean ${meant}?`;
  const found = homes();
  return found.length > 0 && found.length <= MOST_HOMES ? `is not a key here; it is ${found.join(" or ")}` : undefined;
}

/** The names of a choice between maps. */
export function namesOf({ options, def }: z.ZodDiscriminatedUnion): readonly string[] {
  return options.flatMap((option) => {
    const name: unknown = option instanceof z.ZodObject ? option.shape[def.discriminator] : undefined;
    return name instanceof z.ZodLiteral ? [...name.values].map(String) : [];
  });
}

/** `flora` where `{ name: flora }` is needed. */
function withNameHint(problem: Problem, input: string, names: readonly string[]): Problem {
  if (valueHere(input) !== undefined) return problem;
  const name = nearest(input, names);
  if (name === undefined)
    return names.length === 0 ? problem : { ...problem, message: `${problem.message}; the names are ${names.join(", ")}` };
  const meant = `{ name: ${name} }`;
  return { ...problem, meant, message: `${problem.message}; did you mean ${meant}?` };
}

function describe(issue: z.core.$ZodIssue, path: Path, input: unknown): Problem {
  if (issue.code === "custom") return { path, at: "value", message: issue.message };
  if (issue.code === "invalid_key") return { path, at: "key", message: `must be ${issue.issues[0]?.message}, got ${show(path.at(-1))}` };
  if (issue.code === "invalid_union" && !issue.discriminator) {
    const inside = issue.errors.flat().find((branch) => branch.path.length > 0);
    const rest = (inside?.path ?? []) as (string | number)[];
    if (inside) return describe(inside, [...path, ...rest], valueAt(input, rest));
  }
  const value = issue.code === "invalid_union" && issue.discriminator ? valueAt(input, [issue.discriminator]) : input;
  const hint = typeof value === "string" ? hintForWord(value, allowedWords(issue)) : "";
  return {
    path,
    at: "value",
    message: value === undefined ? `is needed: ${expectation(issue)}` : `must be ${expectation(issue)}, got ${show(value)}${hint}`,
    isUnquoted: issue.code === "invalid_type" && issue.expected === "string" && typeof value === "object" && value !== null,
  };
}

function hintForWord(word: string, allowed: readonly string[]): string {
  const here = valueHere(word);
  if (here !== undefined) return `; here it is ${here}`;
  const meant = nearest(word, allowed);
  return meant === undefined ? "" : `; did you mean ${meant}?`;
}

/** The words that a value may be, if its schema or a branch of it lists them. */
function allowedWords(issue: z.core.$ZodIssue): readonly string[] {
  if (issue.code === "invalid_value") return issue.values.filter((value) => typeof value === "string");
  if (issue.code !== "invalid_union") return [];
  if ("options" in issue && issue.options) return issue.options.filter((value) => typeof value === "string");
  return issue.errors.flat().flatMap(allowedWords);
}

/** What was expected, to follow "must be". */
function expectation(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case "invalid_type":
      return typeNames[issue.expected] ?? issue.expected;
    case "invalid_value":
      return oneOf(issue.values);
    case "invalid_union":
      return "options" in issue && issue.options
        ? oneOf(issue.options)
        : issue.errors.map(([first]) => (first ? expectation(first) : "")).join(" or ");
    case "too_small":
      return issue.origin === "array" || issue.origin === "string"
        ? "non-empty"
        : `${issue.inclusive ? "at least" : "more than"} ${issue.minimum}`;
    case "too_big":
      return `${issue.inclusive ? "at most" : "less than"} ${issue.maximum}`;
    case "invalid_format":
    case "invalid_key":
    case "invalid_element":
    case "not_multiple_of":
    case "unrecognized_keys":
    case "custom":
      return issue.message;
  }
}

const typeNames: Readonly<Record<string, string>> = {
  number: "a number",
  string: "a string",
  array: "a list",
  object: "a map",
  record: "a map",
  nonoptional: "a value",
};

function oneOf(values: readonly unknown[]): string {
  return values.length === 1 ? String(values[0]) : `one of ${values.join(", ")}`;
}

function show(value: unknown): string {
  if (value === null) return "nothing";
  if (Array.isArray(value)) return value.length === 0 ? "an empty list" : "a list";
  if (typeof value === "object") return "a map";
  if (typeof value === "string") return JSON.stringify(value);
  return typeof value === "number" || typeof value === "boolean" ? String(value) : `a ${typeof value}`;
}
