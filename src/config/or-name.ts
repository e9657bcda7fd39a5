import { z } from "zod";
import { namesOf } from "./check.ts";
import { toJsonSchema } from "./reference/json-schema.ts";

/**
 * A choice between maps by `name`, for which a bare name stands for `{ name }`, with the default of every other option. A union of
 * both would describe a wrong option as a wrong name.
 */
export function orName<S extends z.ZodDiscriminatedUnion & z.ZodType<{ readonly name: string }>>(schema: S) {
  const names = namesOf(schema);
  const { $schema: _, ...described } = toJsonSchema(schema);
  return z
    .preprocess((value) => (names.some((name) => name === value) ? { name: value } : value), schema)
    .meta({ anyOf: [{ type: "string", enum: [...names] }, described as z.core.JSONSchema.BaseSchema] }) as unknown as z.ZodPipe<
    z.ZodUnion<readonly [z.ZodType<NameOf<S>, NameOf<S>>, S]>,
    S
  >;
}

type NameOf<S extends z.ZodType<{ readonly name: string }>> = z.output<S>["name"];
