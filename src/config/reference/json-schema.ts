import { z } from "zod";
import { toSnake } from "../../base/case.ts";

/** The part of JSON Schema (draft 7) that zod generates from our schemas. */
export interface JsonSchema {
  readonly $schema?: string;
  readonly title?: string;
  readonly description?: string;
  readonly type?: string;
  readonly default?: unknown;
  readonly const?: string;
  readonly enum?: readonly string[];
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly items?: JsonSchema;
  readonly additionalProperties?: boolean | JsonSchema;
  readonly anyOf?: readonly JsonSchema[];
  readonly oneOf?: readonly JsonSchema[];
}

/** What a schema accepts, with its descriptions and defaults. Without rules over several keys, which JSON Schema cannot express. */
export function toJsonSchema(schema: z.ZodType): JsonSchema {
  return z.toJSONSchema(schema, {
    io: "input",
    target: "draft-7",
    unrepresentable: "any",
    override({ jsonSchema }) {
      // It concerns TypeScript types only.
      delete jsonSchema.readOnly;
      // A name or a map: both would have to hold.
      if (jsonSchema.anyOf) delete jsonSchema.oneOf;
    },
  }) as JsonSchema;
}

/** Paths at which a schema has a key, in whichever spelling: `fit.lr` for `lr`. */
export function homesOf(schema: JsonSchema, key: string, path: readonly string[] = []): readonly (readonly string[])[] {
  const { properties = {}, anyOf = [], oneOf = [] } = schema;
  const here = Object.keys(properties).filter((name) => toSnake(name) === toSnake(key));
  const below = Object.entries(properties).flatMap(([name, inner]) => homesOf(inner, key, [...path, name]));
  const all = [...here.map((name) => [...path, name]), ...below, ...[...anyOf, ...oneOf].flatMap((inner) => homesOf(inner, key, path))];
  return all.filter((home, index) => all.findIndex((other) => other.join(".") === home.join(".")) === index);
}

/** The JSON Schema of a YAML file: keys in snake_case, except within `lora`. */
export function toYamlSchema(schema: z.ZodType, title: string): JsonSchema {
  return { title, ...snakeProperties(toJsonSchema(schema)) };
}

function snakeProperties(schema: JsonSchema): JsonSchema {
  const { properties, required, items, anyOf, oneOf, additionalProperties } = schema;
  return {
    ...schema,
    ...(properties && {
      properties: Object.fromEntries(
        Object.entries(properties).map(([key, value]) => [toSnake(key), key === "lora" ? value : snakeProperties(value)]),
      ),
    }),
    ...(required && { required: required.map(toSnake) }),
    ...(items && { items: snakeProperties(items) }),
    ...(anyOf && { anyOf: anyOf.map(snakeProperties) }),
    ...(oneOf && { oneOf: oneOf.map(snakeProperties) }),
    ...(typeof additionalProperties === "object" && { additionalProperties: snakeProperties(additionalProperties) }),
  };
}
