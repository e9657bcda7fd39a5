import { comparisonSchema } from "../comparison.ts";
import { fileSchema } from "../schema.ts";
import { toYamlSchema } from "./json-schema.ts";
import { toMarkdown } from "./markdown.ts";

const run = toYamlSchema(fileSchema, "A run of prelort");
const comparison = toYamlSchema(comparisonSchema, "A comparison of prelort");

/** The JSON Schemas in `configs/`, by file. */
export const jsonSchemas = { "prelort.schema.json": run, "compare.schema.json": comparison } as const;

/** `configs/README.md` with its tables of keys, between the markers, regenerated from the schemas. */
export function withReference(readme: string): string {
  return Object.entries({ run: toMarkdown(run), comparison: toMarkdown(comparison) }).reduce((text, [name, tables]) => {
    const [begin, end] = [`<!-- begin: keys of a ${name}, written by npm run format -->`, `<!-- end: keys of a ${name} -->`];
    const [before, rest] = text.split(begin);
    const after = rest?.split(end)[1];
    if (after === undefined) throw new Error(`configs/README.md lacks the markers ${begin} and ${end}`);
    return `${before}${begin}\n\n${tables}\n\n${end}${after}`;
  }, readme);
}
