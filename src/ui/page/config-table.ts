import type { NamedConfig } from "../messages.ts";
import { h, table } from "./dom.ts";

/** Dotted keys and values of a config. */
function flatten(value: unknown, prefix = ""): Map<string, string> {
  const entries = new Map<string, string>();
  const visit = (at: unknown, key: string) => {
    if (typeof at === "object" && at !== null && !Array.isArray(at) && Object.keys(at).length > 0) {
      for (const [name, inner] of Object.entries(at)) visit(inner, key === "" ? name : `${key}.${name}`);
    } else entries.set(key, typeof at === "string" ? at : (JSON.stringify(at) ?? ""));
  };
  visit(value, prefix);
  return entries;
}

/** Configs side by side; of several, those keys that differ first. */
export function configTable(configs: readonly NamedConfig[], onlyDiffering: boolean): HTMLElement {
  const flat = configs.map(({ config }) => flatten(config ?? {}));
  // The name is the column's.
  for (const entries of flat) entries.delete("name");
  const keys = [...new Set(flat.flatMap((entries) => [...entries.keys()]))];
  const rows = keys.flatMap((key) => {
    const values = flat.map((entries) => entries.get(key) ?? "—");
    const differs = new Set(values).size > 1;
    return onlyDiffering && !differs ? [] : [[h("span", { class: differs ? "differs" : null }, key), ...values]];
  });
  if (rows.length === 0) return h("p", { class: "quiet-text" }, "Their configs are the same.");
  return table("Config", ["key", ...configs.map(({ name }) => name)], rows, "config stacked");
}
