import { comparisonSchema } from "../comparison.ts";
import { fileSchema } from "../schema.ts";
import { namesElsewhereTable } from "../names-elsewhere.ts";
import { NAME } from "../named-strategy.ts";
import { type JsonSchema, toYamlSchema } from "./json-schema.ts";
import { toMarkdown } from "./markdown.ts";

const run = withStrategyName(toYamlSchema(fileSchema, "A run of prelort"));
const comparison = toYamlSchema(comparisonSchema, "A comparison of prelort");

/** The JSON Schemas in `configs/`, by file. */
export const jsonSchemas = { "prelort.schema.json": withOneWord(run), "compare.schema.json": comparison } as const;

/** The names of a strategy are no part of the schema, which checks what they stand for. */
function withStrategyName(schema: JsonSchema): JsonSchema {
  const description = `All of it in one word, also as strategy: ${NAME}: segment-wise aggregation and, unless fit says otherwise, objective sum with equal weights. rank_assignment is then { name: distribution, shape: uniform } by default.`;
  const { strategy = {}, ...properties } = schema.properties ?? {};
  const name: JsonSchema = { type: "string", const: NAME, description };
  return { ...schema, properties: { ...properties, strategy: { ...strategy, properties: { name, ...strategy.properties } } } };
}

/** With the form of a single word. */
function withOneWord(schema: JsonSchema): JsonSchema {
  const { strategy = {}, ...properties } = schema.properties ?? {};
  const { required = [], description = "", ...map } = strategy;
  const either = [{ required: [...required] }, { required: ["name"] }];
  const word: JsonSchema = { type: "string", const: NAME };
  return { ...schema, properties: { ...properties, strategy: { description, anyOf: [{ ...map, anyOf: either }, word] } } };
}

/** `configs/README.md` with its tables, between the markers, made anew. */
export function withReference(readme: string): string {
  const tables = {
    "keys of a run": toMarkdown(run),
    "keys of a comparison": toMarkdown(comparison),
    "names elsewhere": namesElsewhereTable(),
  };
  return Object.entries(tables).reduce((text, [name, table]) => {
    const [begin, end] = [`<!-- begin: ${name}, written by npm run format -->`, `<!-- end: ${name} -->`];
    const [before, rest] = text.split(begin);
    const after = rest?.split(end)[1];
    if (after === undefined) throw new Error(`configs/README.md lacks the markers ${begin} and ${end}`);
    return `${before}${begin}\n\n${table}\n\n${end}${after}`;
  }, readme);
}
