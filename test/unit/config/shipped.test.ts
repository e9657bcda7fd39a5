import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { buildRun, describeConfig, resolveTiers } from "../../../src/config/build.ts";
import { loadConfig } from "../../../src/config/load.ts";

const folder = join(import.meta.dirname, "../../../configs");
const files = readdirSync(folder).filter((file) => file.endsWith(".yaml"));

describe("every shipped config", () => {
  it.each(files)("%s is valid, and its header says how to run it", async (file) => {
    const config = buildRun(await loadConfig(join(folder, file)));
    expect(resolveTiers(config).at(-1)).toBe(config.lora.r);
    expect(JSON.parse(JSON.stringify(describeConfig(config)))).toEqual(describeConfig(config));
    const header = readFileSync(join(folder, file), "utf8").split(/^[^#]/m)[0];
    expect(header).toContain(`#   npx prelort run configs/${file}\n`);
  });
});
