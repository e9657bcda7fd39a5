/* A step of the build: gives the declarations in dist the doc comments that editors show. */
import { readFileSync, writeFileSync } from "node:fs";
import { comparisonSchema } from "../comparison.ts";
import { fileSchema, runSchema } from "../schema.ts";
import { withHoverDocs } from "./hover-docs.ts";

for (const [file, schemas] of [
  ["schema.d.ts", { fileSchema, runSchema }],
  ["comparison.d.ts", { comparisonSchema }],
] as const) {
  const url = new URL(`../${file}`, import.meta.url);
  writeFileSync(url, withHoverDocs(readFileSync(url, "utf8"), schemas));
}
