import type { z } from "zod";
import { toCamel } from "../../base/case.ts";
import { type JsonSchema, toJsonSchema } from "./json-schema.ts";

/**
 * A declaration file with a doc comment above every key of the exported schemas. Editors show it on hovering over a key of RunInput
 * or RunConfig, since mapped types keep the comments of the properties they map. Throws if the file lacks a described key.
 *
 * tsc prints one property per line, indented by depth, in the order of the schema. A key is therefore found by its path, and keys of
 * a union's choices, which share their paths, by their order.
 */
export function withHoverDocs(declarations: string, schemas: Readonly<Record<string, z.ZodType>>): string {
  const lines = declarations.split("\n");
  return Object.entries(schemas)
    .reduce((written, [name, schema]) => documented(written, name, toJsonSchema(schema)), lines)
    .join("\n");
}

/** The comments for each path of keys, in order. */
type Docs = ReadonlyMap<string, string[]>;

function documented(lines: readonly string[], name: string, schema: JsonSchema): string[] {
  const start = lines.findIndex((line) => line.startsWith(`export declare const ${name}: `));
  const length = lines.slice(start).findIndex((line) => line.startsWith("}"));
  const docs = docsOf(schema);
  const open: { readonly indent: number; readonly key: string }[] = [];
  const body = lines.slice(start, start + length).flatMap((line) => {
    const [, indent = "", key] = /^( +)(\w+): z\./.exec(line) ?? [];
    if (key === undefined) return [line];
    while ((open.at(-1)?.indent ?? 0) >= indent.length) open.pop();
    open.push({ indent: indent.length, key });
    const doc = docs.get(open.map((each) => each.key).join("."))?.shift();
    return doc === undefined ? [line] : [`${indent}/** ${doc} */`, line];
  });
  const missing = [...docs].filter(([, left]) => left.length > 0).map(([path]) => path);
  if (start < 0 || missing.length > 0)
    throw new Error(`hover docs of ${name}: its declaration lacks ${missing.join(", ") || "everything"}`);
  return [...lines.slice(0, start), ...body, ...lines.slice(start + length)];
}

function docsOf(schema: JsonSchema): Docs {
  const docs = new Map<string, string[]>();
  const names = new Set<string>();
  const visit = (node: JsonSchema, path: readonly string[]) => {
    for (const [key, value] of Object.entries(node.properties ?? {})) {
      const at = [...path, key];
      names.add(key);
      if (value.description !== undefined) docs.set(at.join("."), [...(docs.get(at.join(".")) ?? []), docOf(value)]);
      visit(value, at);
    }
    for (const inner of [node.items, ...(node.anyOf ?? []), ...(node.oneOf ?? [])]) if (inner) visit(inner, path);
  };
  visit(schema, []);
  return new Map([...docs].map(([path, texts]) => [path, texts.map((text) => inCamelCase(text, names))]));
}

function docOf({ description = "", default: byDefault, properties, oneOf }: JsonSchema): string {
  const isTold = byDefault === undefined || (properties && Object.keys(byDefault as object).length === 0) || oneOf;
  return isTold ? description : `${description} Default: ${JSON.stringify(byDefault)}.`;
}

/** Descriptions spell keys as in YAML. */
function inCamelCase(text: string, names: ReadonlySet<string>): string {
  return text.replace(/\b[a-z]+(?:_[a-z]+)+\b/g, (word) => (names.has(toCamel(word)) ? toCamel(word) : word));
}
