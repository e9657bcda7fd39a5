import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { buildRun, describeConfig } from "../../../src/config/build.ts";
import { resolveTiers } from "../../../src/config/resolve-tiers.ts";
import { assignments, loadComparison } from "../../../src/config/comparison.ts";
import { loadConfig } from "../../../src/config/load.ts";

const folder = join(import.meta.dirname, "../../../configs");
const files = readdirSync(folder).filter((file) => file.endsWith(".yaml"));
const isComparison = (file: string) => file.startsWith("compare-");
const headerOf = (file: string) => readFileSync(join(folder, file), "utf8").split(/^[^#]/m)[0] ?? "";
/** What a header says to try with --set, quoted or up to the end of a word or sentence. */
const proposals = (file: string) =>
  [
    ...headerOf(file)
      .replaceAll("\n#", "")
      .matchAll(/--set (?:'([^']+)'|(\S+?)[.,;:]?(?=\s|$))/g),
  ].map(([, quoted, bare]) => quoted ?? bare ?? "");

describe("every shipped config", () => {
  it.each(files.filter((file) => !isComparison(file)))("%s is valid, and its header says how to run it", async (file) => {
    const config = buildRun(await loadConfig(join(folder, file)));
    expect(resolveTiers(config).at(-1)).toBe(config.lora.r);
    expect(JSON.parse(JSON.stringify(describeConfig(config)))).toEqual(describeConfig(config));
    expect(headerOf(file)).toContain(`#   npx prelort run configs/${file}\n`);
  });
});

describe("assignments that a shipped config's header proposes", () => {
  it.each(files.filter((file) => proposals(file).length > 0))("%s is valid with all of them", async (file) => {
    const config = await loadConfig(join(folder, file));
    const set = proposals(file);
    for (const assignment of set) expect(assignment).toMatch(/^[a-z_.]+=/);
    expect(buildRun(await loadConfig(join(folder, file), { set }))).not.toEqual(buildRun(config));
  });

  it("are found, quoted or not", () => {
    expect(proposals("flora-dolly.yaml")).toContain("model.name_or_path=huggyllama/llama-7b");
    expect(proposals("flora-dolly.yaml")).toContain("strategy.server_optimizer={ name: momentum, momentum: 0.5 }");
    expect(proposals("flora-dolly.yaml")).toContain("data.partition=");
  });
});

describe("every shipped comparison", () => {
  it.each(files.filter(isComparison))("%s is valid with all its methods, and its header says how to run it", async (file) => {
    const { setting, methods } = await loadComparison(join(folder, file));
    for (const method of methods) buildRun(await loadConfig(setting, { given: assignments(method) }));
    expect(headerOf(file)).toContain(`#   npx prelort compare configs/${file}\n`);
  });
});
