import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Command } from "commander";
import { expect, onTestFinished, test } from "vitest";
import { parse, stringify } from "yaml";
import { loadComparison } from "../../src/config/comparison.ts";
import { loadConfig } from "../../src/config/load.ts";
import { jsonSchemas } from "../../src/config/reference/files.ts";
import type { JsonSchema } from "../../src/config/reference/json-schema.ts";
import { packageRoot } from "../../src/installation.ts";
import { PROTOCOL_VERSION } from "../../src/protocol/limits.ts";
import { anchors, type Document, documents, inlineCode, localLinks, readDocument, resolveLink, snippets } from "../support/documents.ts";

/* Checks the guides against the code. Checks that need Python or dist are in test/e2e/readme.test.ts and test/workers/test_documents.py. */

const root = packageRoot();
const shell = (document: Document) => snippets(document, "sh").flatMap((block) => block.split("\n"));
const names = documents.map(({ name }) => name);

test("every guide exists", () => {
  const guides = [
    "README.md",
    "CONTRIBUTING.md",
    ...["configs", "configs/results", "src", "test", "workers"].map((room) => `${room}/README.md`),
  ];
  expect(names).toEqual(expect.arrayContaining([...guides, ...["protocol", "records", "strategy"].map((room) => `src/${room}/README.md`)]));
});

test("the front page links to what new users look for first", () => {
  const [ownData, ownPolicy] = ["workers/README.md#data", "src/strategy/README.md#your-own-policy"];
  const [quorum, compare, resume] = [
    "src/README.md#not-waiting-for-everybody",
    "configs/README.md#comparisons",
    "src/records/README.md#resume",
  ];
  expect(localLinks(readDocument("README.md"))).toEqual(expect.arrayContaining([ownData, ownPolicy, quorum, compare, resume]));
});

test("the front page has at most 250 lines and 14 kB", () => {
  const { text } = readDocument("README.md");
  expect(text.split("\n").length).toBeLessThanOrEqual(251);
  expect(Buffer.byteLength(text)).toBeLessThanOrEqual(14_000);
});

test.each(documents.map((document) => [document.name, document] as const))("every link in %s leads somewhere", (_, document) => {
  const broken = localLinks(document).filter((target) => {
    const { file, anchor } = resolveLink(document, target);
    if (!existsSync(path.join(root, file))) return true;
    return anchor !== undefined && !anchors(readDocument(file)).includes(anchor);
  });
  expect(broken).toEqual([]);
});

test("every guide is linked from the front page or from CONTRIBUTING.md", () => {
  const linked = ["README.md", "CONTRIBUTING.md"]
    .map(readDocument)
    .flatMap((document) => localLinks(document).map((target) => resolveLink(document, target).file));
  expect(names.filter((name) => /(^|\/)(README|CONTRIBUTING)\.md$/.test(name) && name !== "README.md" && !linked.includes(name))).toEqual(
    [],
  );
});

/** The commands of src/cli, by name. */
async function loadCommands(): Promise<ReadonlyMap<string, Command>> {
  const folder = path.join(root, "src/cli");
  const files = readdirSync(folder).filter((file) => file.endsWith(".ts") && file !== "main.ts");
  const modules = await Promise.all(files.map((file) => import(path.join(folder, file)) as Promise<Record<string, unknown>>));
  const factories = modules.flatMap((module) => Object.entries(module).filter(([name]) => name.endsWith("Command")));
  const commands = factories.map(([, create]) => (create as () => Command)());
  return new Map(commands.map((command) => [command.name(), command]));
}

/** Uses of the command line with their command and options. */
function usesOf(document: Document): readonly { readonly line: string; readonly name: string; readonly options: readonly string[] }[] {
  const rows = [...document.text.matchAll(/^\| `prelort [^\n]*$/gm)].map(([row]) => `prelort ${row.slice("| `prelort ".length)}`);
  return [...shell(document), ...inlineCode(document), ...rows].flatMap((line) => {
    const [, name, rest = ""] = /^(?:\w+=\S+ )*(?:npx )?prelort ([a-z-]+)(.*)$/.exec(line.trim()) ?? [];
    if (name === undefined) return [];
    return [{ line, name, options: [...rest.replace(/ # .*$/, "").matchAll(/(?<![\w-])--[a-z][\w-]*/g)].map(([option]) => option) }];
  });
}

test("the guides use only existing commands and options", async () => {
  const commands = await loadCommands();
  expect(commands.size).toBeGreaterThan(10);
  const uses = documents.flatMap(usesOf);
  expect(uses.length).toBeGreaterThan(30);
  const unknown = uses.filter(({ name, options }) => {
    if (name === "help") return false;
    const known = commands.get(name)?.options.flatMap(({ long }) => long ?? []);
    return known === undefined || options.some((option) => !known.includes(option));
  });
  expect(unknown).toEqual([]);
});

test("src/README.md has a row for every command", async () => {
  const { text } = readDocument("src/README.md");
  for (const name of (await loadCommands()).keys()) expect(text).toMatch(new RegExp(`^\\| \`prelort ${name}\\b`, "m"));
});

test("the guides use only existing npm scripts and options", () => {
  const lines = documents.flatMap((document) => {
    // An example is a package of its own.
    const folder = document.name.startsWith("test/examples/") ? path.dirname(document.name) : "";
    const { scripts } = JSON.parse(readFileSync(path.join(root, folder, "package.json"), "utf8")) as { scripts: Record<string, string> };
    const uses = [...shell(document), ...inlineCode(document)].filter((line) => /^npm (run|test)/.test(line));
    return uses.map((line) => ({ line: line.replace(/ +#.*$/, ""), scripts, folder }));
  });
  expect(lines.length).toBeGreaterThan(10);
  const unknown = lines.filter(({ line, scripts, folder }) => {
    const [, name = "test", rest = ""] = /^npm (?:run (\w+)|test)(?: -- (.*))?/.exec(line) ?? [];
    const main = path.join(root, folder === "" ? `test/${name}/main.ts` : `${folder}/${name}.ts`);
    const known = existsSync(main) ? readFileSync(main, "utf8") : "";
    const isKnown = (option: string) => new RegExp(`\\b${option}"?: \\{ type:|"--${option}"`).test(known);
    return !(name in scripts) || [...rest.matchAll(/--([a-z-]+)/g)].some(([, option = ""]) => !isKnown(option));
  });
  expect(unknown).toEqual([]);
});

/** Dotted names of a config's keys in all branches of the schema. */
function keysOf(schema: JsonSchema, prefix = ""): readonly string[] {
  const own = Object.entries(schema.properties ?? {}).flatMap(([key, value]) => [`${prefix}${key}`, ...keysOf(value, `${prefix}${key}.`)]);
  return [
    ...own,
    ...[schema.items, ...(schema.anyOf ?? []), ...(schema.oneOf ?? [])].flatMap((each) => (each ? keysOf(each, prefix) : [])),
  ];
}

test("the guides name only existing config keys", () => {
  const keys = keysOf(jsonSchemas["prelort.schema.json"]);
  const sections = new Set(keys.filter((key) => key.includes(".")).map((key) => key.split(".")[0]));
  const named = documents.flatMap((document) => [
    ...inlineCode(document),
    ...[...shell(document), ...inlineCode(document)].flatMap((line) => [...line.matchAll(/--set ([\w.]+)=/g)].map(([, key = ""]) => key)),
  ]);
  const dotted = named.map((code) => code.split(/[:= ]/)[0] ?? "").filter((code) => /^[a-z]+(\.(?!(ts|py)$)[a-z_]+)+$/.test(code));
  const namedKeys = dotted.filter((code) => sections.has(code.split(".")[0]));
  expect(namedKeys.length).toBeGreaterThan(20);
  expect(namedKeys.filter((key) => !keys.includes(key))).toEqual([]);
});

test("the guides name only existing files", () => {
  const codes = documents.flatMap((document) => [
    ...inlineCode(document),
    ...shell(document).flatMap((line) => line.replace(/ # .*$/, "").split(" ")),
  ]);
  const files = codes.filter((code) => /^(src|test|workers|configs)\/[\w./-]+$/.test(code) && !/NAME/.test(code));
  expect(files.length).toBeGreaterThan(50);
  expect(files.filter((file) => !existsSync(path.join(root, file)))).toEqual([]);
});

test("the wire contract gives the current protocol version", () => {
  expect(readDocument("src/protocol/README.md").text).toContain(`\`protocol_version\` (${PROTOCOL_VERSION})`);
});

const blocks = documents.flatMap((document) =>
  [...snippets(document, "yaml"), ...snippets(document, "yml")].map((yaml, index) => [`${document.name}, ${index + 1}`, yaml] as const),
);

/** The rest of the config for a snippet that shows only a section. */
const rest = {
  rounds: 2,
  model: { name_or_path: "my-encoder", task: "causal-lm" },
  lora: { r: 8 },
  data: { path: "speeches.csv", text: "{sentence}", partition: { name: "value", by: "speaker" } },
  strategy: { rank_assignment: { name: "list", ranks: [8, 1] } },
};

test.each(blocks)("YAML snippet %s is a valid config, part of a config, or comparison", async (_, yaml) => {
  const folder = mkdtempSync(path.join(tmpdir(), "prelort-documents-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  mkdirSync(path.join(folder, "my-encoder"));
  for (const file of ["speeches.csv", "complaints.csv", "tickets.csv", "tickets-test.csv"]) writeFileSync(path.join(folder, file), "");
  const value = parse(yaml) as { readonly strategy?: object };
  const file = path.join(folder, "my-run.yaml");
  if ("methods" in value) {
    writeFileSync(file, stringify(rest));
    writeFileSync(path.join(folder, "compare.yaml"), yaml);
    expect((await loadComparison(path.join(folder, "compare.yaml"))).methods.length).toBeGreaterThan(1);
  } else {
    const whole = { ...rest, ...value, strategy: { ...rest.strategy, ...value.strategy } };
    writeFileSync(file, "rounds" in value ? yaml : stringify(whole));
    expect((await loadConfig(file)).rounds).toBeGreaterThan(1);
  }
});
