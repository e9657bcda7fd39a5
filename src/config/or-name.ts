import { z } from "zod";
import { toJsonSchema } from "./reference/json-schema.ts";

/**
 * A bare name stands for `{ name }`, with the default of every other option. A union of both would describe a wrong option as a wrong
 * name.
 */
export function orName<N extends string, S extends z.ZodType<{ readonly name: N }>>(names: readonly N[], schema: S) {
  const { $schema: _, ...described } = toJsonSchema(schema);
  return z
    .preprocess((value) => (names.some((name) => name === value) ? { name: value } : value), schema)
    .meta({ anyOf: [{ type: "string", enum: [...names] }, described as z.core.JSONSchema.BaseSchema] }) as unknown as z.ZodPipe<
    z.ZodUnion<readonly [z.ZodType<N, N>, S]>,
    S
  >;
}
