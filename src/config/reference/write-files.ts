/* A step of `npm run format`: writes the config reference and the JSON Schemas in `configs/` from the schemas. */
import { readFileSync, writeFileSync } from "node:fs";
import { jsonSchemas, withReference } from "./files.ts";

const configs = new URL("../../../configs/", import.meta.url);
for (const [file, schema] of Object.entries(jsonSchemas)) writeFileSync(new URL(file, configs), `${JSON.stringify(schema, null, 2)}\n`);
const readme = new URL("README.md", configs);
writeFileSync(readme, withReference(readFileSync(readme, "utf8")));
