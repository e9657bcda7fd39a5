import { z } from "zod";
import { camelKeys, snakeKeys } from "../base/case.ts";
import { formatPath, type Problem } from "../config/check.ts";

/* Parts of the schemas of a run's files, and messages for values that do not match them. */

export const count = z.number().int().nonnegative();
export const sha256 = z.string().regex(/^[0-9a-f]{64}$/, "64 hexadecimal digits");
export const names = z.array(z.string()).readonly();

export function list<S extends z.ZodType>(item: S) {
  return z.array(item).readonly();
}

/** A value with camelCase keys here and snake_case keys on disk. */
export function inSnakeCase<S extends z.ZodType>(schema: S): z.ZodCodec<z.ZodUnknown, S> {
  return z.codec(z.unknown(), schema, {
    decode: (value) => camelKeys(value) as z.input<S>,
    encode: (value) => snakeKeys(value),
  });
}

/** The first few problems, each with its key. */
export function describeProblems(problems: readonly Problem[]): string {
  const shown = problems.slice(0, SHOWN).map(({ path: at, message }) => `${formatPath(at, "snake_case")} ${message}`.trim());
  const more = problems.length - SHOWN;
  return `${shown.join("; ")}${more > 0 ? `; and ${more} more` : ""}`;
}

const SHOWN = 3;
