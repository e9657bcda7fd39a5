import type { JsonSchema } from "./json-schema.ts";

/** Tables of all keys of a YAML file: one for top-level keys, and one for each section with its nested keys. */
export function toMarkdown(schema: JsonSchema): string {
  const entries = Object.entries(schema.properties ?? {});
  const own = entries.filter(([, value]) => !isSection(value)).map(([key, value]) => rowsOf(key, value, isRequired(schema, key)));
  const sections = entries.filter(([, value]) => isSection(value));
  return [
    table(own.flat()),
    ...sections.flatMap(([key, value]) => [`### ${code(key)}`, value.description ?? "", table(rowsWithin(value, ""))]),
  ].join("\n\n");
}

const HEAD = ["| key | value | default | description |", "|---|---|---|---|"];

function table(rows: readonly string[]): string {
  return [...HEAD, ...rows].join("\n");
}

function isSection({ properties, oneOf }: JsonSchema): boolean {
  return properties !== undefined || oneOf !== undefined;
}

function isRequired({ required = [] }: JsonSchema, key: string): boolean {
  return required.includes(key);
}

/** A row for a key, and rows for the keys inside it. */
function rowsOf(key: string, schema: JsonSchema, needed: boolean): string[] {
  const { description = "", items, default: byDefault, anyOf = [] } = schema;
  const [text, defaultText] = description.split(" Default: ");
  const standard = needed ? "required" : byDefault === undefined ? (defaultText ?? "none").replace(/\.$/, "") : code(spell(byDefault));
  const row = `| ${[code(key), typeOf(schema), standard, text ?? ""].map(escape).join(" | ")} |`;
  const sections = items ? [] : [schema, ...anyOf].filter(isSection);
  const within = items && isSection(items) ? rowsWithin(items, `${key}[].`) : sections.flatMap((section) => rowsWithin(section, `${key}.`));
  return [row, ...within];
}

/** Rows for the keys of a map; for a choice between maps, those of each, beginning with its name. */
function rowsWithin(schema: JsonSchema, prefix: string): string[] {
  const { properties = {}, oneOf } = schema;
  if (oneOf) return oneOf.flatMap((choice) => rowsWithin(choice, prefix));
  return Object.entries(properties).flatMap(([key, value]) => {
    if (value.const === undefined || key !== "name") return rowsOf(`${prefix}${key}`, value, isRequired(schema, key));
    return [`| ${[`**${code(`${prefix}${key}: ${value.const}`)}**`, "", "", value.description ?? ""].map(escape).join(" | ")} |`];
  });
}

function typeOf(schema: JsonSchema): string {
  const { type, const: constant, enum: words, anyOf, items, additionalProperties } = schema;
  if (constant !== undefined) return code(constant);
  if (words) return words.map(code).join(", ");
  if (anyOf) return [...new Set(anyOf.map(typeOf))].join(" or ");
  if (isSection(schema)) return "map";
  if (type === "array") return items && !isSection(items) ? `list of ${plural(typeOf(items))}` : "list of maps";
  if (type === "object")
    return typeof additionalProperties === "object" && additionalProperties.type ? `map to ${plural(typeOf(additionalProperties))}` : "map";
  if (type === "null") return code("null");
  if (type === "boolean") return "`true` or `false`";
  return `${type ?? "any"}${range(schema)}`;
}

function plural(type: string): string {
  return type.replace(/^(integer|number|string)/, "$1s");
}

function range({ minimum, exclusiveMinimum, maximum, exclusiveMaximum }: JsonSchema): string {
  const bounds = [
    minimum === undefined ? "" : ` ≥ ${minimum}`,
    exclusiveMinimum === undefined ? "" : ` > ${exclusiveMinimum}`,
    maximum === undefined || maximum === Number.MAX_SAFE_INTEGER ? "" : ` ≤ ${maximum}`,
    exclusiveMaximum === undefined ? "" : ` < ${exclusiveMaximum}`,
  ];
  return bounds.filter((bound) => bound !== "").join(",");
}

/** A value in YAML's flow style. */
function spell(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(spell).join(", ")}]`;
  if (typeof value !== "object" || value === null) return String(value);
  const pairs = Object.entries(value).map(([key, item]) => `${key}: ${spell(item)}`);
  return pairs.length === 0 ? "{}" : `{ ${pairs.join(", ")} }`;
}

function code(text: string): string {
  return `\`${text}\``;
}

/** A `|` would end the cell. */
function escape(cell: string): string {
  return cell.replaceAll("|", "\\|");
}
