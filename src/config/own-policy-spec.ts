import { basename } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { isMap } from "./tree.ts";

/*
 * A policy of one's own in a file: `./mine.mjs#name`, an export that is the policy, or `{ module: ./mine.mjs#name, …options }`, a
 * function that is called with the options and returns the policy.
 */

export const POLICY_KEYS = ["selection", "rankAssignment", "aggregation"] as const;
export type PolicyKey = (typeof POLICY_KEYS)[number];

export interface OwnPolicy {
  /** Path of the file, absolute once the config has been read, then `#` and the name of the export. */
  readonly module: string;
  /** What the export is called with, keys in camelCase; without options, the export is the policy. */
  readonly options?: Readonly<Record<string, unknown>>;
  /** The policy, once its code has run. */
  readonly value?: unknown;
  /** SHA-256 of the file and of what it imports by relative paths, by path relative to the file's folder. */
  readonly files?: Readonly<Record<string, string>>;
}

const FORM = "a file and its export, such as ./mine.mjs#name";
const IN_PLACE =
  "A policy of your own, in place of name: a file and its export, ./mine.mjs#name, a function that is called with the other keys. Without options: ./mine.mjs#name in place of the map.";
const source = z.string().regex(/^.+#[A-Za-z_$][\w$]*$/, FORM);

/** The record holds options as JSON. */
const isJson = (value: unknown) => value !== undefined && isDeepStrictEqual(JSON.parse(JSON.stringify(value)), value);
const option = z.unknown().refine(isJson, "must be a value that JSON can hold: text, a finite number, true, false, a list or a map");

/** Adds one's own policies to those with a name. */
export function orOwn<S extends z.ZodType>(named: S) {
  return z.union([
    named,
    source.transform((module): OwnPolicy => ({ module })),
    z
      .object({ module: source.describe(IN_PLACE) })
      .catchall(option)
      .transform(({ module, ...options }): OwnPolicy => ({ module, options })),
  ]);
}

/** The issues of the form of `orOwn` that a refused value was meant to have. */
export function issuesOfForm(input: unknown, [named = [], text = [], map = []]: readonly (readonly z.core.$ZodIssue[])[]) {
  if (isMap(input) && "module" in input && !("name" in input)) return map;
  return typeof input === "string" && /[#/]|\.[cm]?[jt]s$/.test(input) ? text : named;
}

/** The file and the export of `./mine.mjs#name`; undefined for anything else. */
export function splitModule(module: unknown): { readonly file: string; readonly name: string } | undefined {
  const [, file = "", name = ""] = (typeof module === "string" && /^(.+)#([^#]*)$/.exec(module)) || [];
  return file === "" ? undefined : { file, name };
}

/** What a policy of one's own is called: `mine.mjs#name`, which no other policy is. */
export function nameOf({ module }: Pick<OwnPolicy, "module">): string {
  return basename(module);
}

/** The policy's own file, if it has one: of a config's spec, or of the policy that was made from it. */
export function ownPolicyOf(policy: unknown): OwnPolicy | undefined {
  const { policy: made = policy } = (policy ?? {}) as { readonly policy?: unknown };
  return typeof (made as { readonly module?: unknown } | null | undefined)?.module === "string" ? (made as OwnPolicy) : undefined;
}
