import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { buildRun, describeConfig, resolveTiers } from "../../../src/config/build.ts";
import { assignments, loadComparison } from "../../../src/config/comparison.ts";
import { loadConfig } from "../../../src/config/load.ts";

const folder = join(import.meta.dirname, "../../../configs");
const files = readdirSync(folder).filter((file) => file.endsWith(".yaml"));
const isComparison = (file: string) => file.startsWith("compare-");
const headerOf = (file: string) => readFileSync(join(folder, file), "utf8").split(/^[^#]/m)[0];

describe("every shipped config", () => {
  it.each(files.filter((file) => !isComparison(file)))("%s is valid, and its header says how to run it", async (file) => {
    const config = buildRun(await loadConfig(join(folder, file)));
    expect(resolveTiers(config).at(-1)).toBe(config.lora.r);
    expect(JSON.parse(JSON.stringify(describeConfig(config)))).toEqual(describeConfig(config));
    expect(headerOf(file)).toContain(`#   npx prelort run configs/${file}\n`);
  });
});

describe("every shipped comparison", () => {
  it.each(files.filter(isComparison))("%s is valid with all its methods, and its header says how to run it", async (file) => {
    const { setting, methods } = await loadComparison(join(folder, file));
    for (const method of methods) buildRun(await loadConfig(setting, { set: assignments(method) }));
    expect(headerOf(file)).toContain(`#   npx prelort compare configs/${file}\n`);
  });
});
