import { readdirSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Ajv } from "ajv";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { z } from "zod";
import { assignments, comparisonSchema, loadComparison } from "../../../src/config/comparison.ts";
import { loadConfig } from "../../../src/config/load.ts";
import { jsonSchemas, withReference } from "../../../src/config/reference/files.ts";
import { withHoverDocs } from "../../../src/config/reference/hover-docs.ts";
import { type JsonSchema, toJsonSchema } from "../../../src/config/reference/json-schema.ts";
import { toMarkdown } from "../../../src/config/reference/markdown.ts";
import { fileSchema, runSchema } from "../../../src/config/schema.ts";
import { readDocument, snippets } from "../../support/documents.ts";

const root = join(import.meta.dirname, "../../..");
const configs = join(root, "configs");
const read = (...names: string[]) => readFileSync(join(...names), "utf8");

describe("files generated from the schemas of configs (by npm run format; hover docs by npm run build)", () => {
  it("every key has a description", () => {
    const undescribed = (schema: JsonSchema, path: string): string[] => [
      ...Object.entries(schema.properties ?? {}).flatMap(([key, value]) => [
        ...(value.description ? [] : [`${path}${key}`]),
        ...undescribed(value, `${path}${key}.`),
      ]),
      ...[schema.items, ...(schema.anyOf ?? []), ...(schema.oneOf ?? [])].flatMap((inner) => (inner ? undescribed(inner, path) : [])),
    ];
    for (const schema of [fileSchema, runSchema, comparisonSchema]) expect(undescribed(toJsonSchema(schema), "")).toEqual([]);
  });

  it.each(Object.entries(jsonSchemas))("configs/%s is up to date with its schema", (file, schema) => {
    expect(JSON.parse(read(configs, file))).toEqual(JSON.parse(JSON.stringify(schema)));
  });

  it("configs/README.md has tables of keys that are up to date with the schemas", () => {
    const readme = read(configs, "README.md");
    expect(withReference(readme)).toBe(readme);
    expect(readme).toContain("| `local_steps` | integer ≥ 0 | `10` | Optimizer steps of a client in a round. |");
  });

  it("the built declarations have the schemas' descriptions as hover docs", () => {
    for (const [file, schemas] of [
      ["schema.d.ts", { fileSchema, runSchema }],
      ["comparison.d.ts", { comparisonSchema }],
    ] as const) {
      const built = read(root, "dist/config", file);
      const bare = built.replaceAll(/^ +\/\*\* .* \*\/\n/gm, "");
      expect(bare).not.toBe(built);
      expect(withHoverDocs(bare, schemas)).toBe(built);
    }
  });
});

describe("withHoverDocs", () => {
  const schema = z.strictObject({
    fooBar: z.number().default(3).describe("As foo_bar has it."),
    kinds: z.array(
      z.discriminatedUnion("name", [
        z.strictObject({ name: z.literal("a").describe("The a.") }),
        z.strictObject({ name: z.literal("b").describe("The b.") }),
      ]),
    ),
  });
  const declarations = [
    "export declare const schema: z.ZodObject<{",
    "    fooBar: z.ZodDefault<z.ZodNumber>;",
    "    kinds: z.ZodArray<z.ZodDiscriminatedUnion<[z.ZodObject<{",
    '        name: z.ZodLiteral<"a">;',
    "    }, z.core.$strict>, z.ZodObject<{",
    '        name: z.ZodLiteral<"b">;',
    "    }, z.core.$strict>]>>;",
    "}, z.core.$strict>;",
  ];

  it("puts each description above its key, with its default, and spells keys as TypeScript does", () => {
    const written = withHoverDocs(declarations.join("\n"), { schema }).split("\n");
    expect(written.filter((line) => line.includes("/**"))).toEqual([
      "    /** As fooBar has it. Default: 3. */",
      "        /** The a. */",
      "        /** The b. */",
    ]);
    expect(written[written.indexOf("        /** The b. */") + 1]).toBe('        name: z.ZodLiteral<"b">;');
    expect(written.filter((line) => !line.includes("/**"))).toEqual(declarations);
  });

  it("refuses declarations that lack a key", () => {
    expect(() => withHoverDocs(declarations.filter((line) => !line.includes("fooBar")).join("\n"), { schema })).toThrow("fooBar");
    expect(() => withHoverDocs("", { schema })).toThrow("schema");
  });
});

describe("toMarkdown", () => {
  it("lists for each key its type, default and description", () => {
    const schema = z.strictObject({
      rounds: z.number().min(1).describe("Rounds to train."),
      fit: z.strictObject({
        lr: z.number().positive().max(1).default(0.5).describe("Learning rate."),
        head: z.array(z.string()).optional().describe("Names. Default: none at all."),
      }),
    });
    expect(toMarkdown(toJsonSchema(schema)).split("\n")).toEqual(
      expect.arrayContaining([
        "| `rounds` | number ≥ 1 | required | Rounds to train. |",
        "### `fit`",
        "| `lr` | number > 0, ≤ 1 | `0.5` | Learning rate. |",
        "| `head` | list of strings | none at all | Names. |",
      ]),
    );
  });
});

describe("the JSON Schemas for editors", () => {
  const ajv = new Ajv({ allErrors: true });
  const isRun = ajv.compile(jsonSchemas["prelort.schema.json"]);
  const isComparison = ajv.compile(jsonSchemas["compare.schema.json"]);
  const files = readdirSync(configs).filter((file) => file.endsWith(".yaml"));

  it.each(files)("%s names its schema in its first line, and conforms to it", (file) => {
    const [isValid, schema] = file.startsWith("compare-") ? [isComparison, "compare"] : [isRun, "prelort"];
    expect(read(configs, file).split("\n")[0]).toBe(`# yaml-language-server: $schema=./${schema}.schema.json`);
    isValid(parse(read(configs, file)));
    expect(isValid.errors).toBeNull();
  });

  it("the config of new-task conforms to the schema", () => {
    isRun(parse(read(configs, "new-task/new_task.yaml")));
    expect(isRun.errors).toBeNull();
  });

  it.each([
    { fit: { optimizer: "sgd" } },
    { fit: { optimizer: { name: "adamw", betas: [0.9, 0.95] } } },
    { track: ["mlflow", { name: "trackio", project: "speeches" }] },
  ])("accept a bare name, and a name with options: %o", (change) => {
    isRun({ ...parse(read(configs, "quickstart.yaml")), ...change });
    expect(isRun.errors).toBeNull();
  });

  it.each([
    ["an unknown optimizer", "/fit/optimizer", { fit: { optimizer: "lion" } }],
    ["an unknown key", "/fit", { fit: { full_wieght: 1 } }],
    ["a camelCase key", "/fit", { fit: { localSteps: 1 } }],
    ["a fraction of a round", "/rounds", { rounds: 1.5 }],
    ["an invalid device", "/workers/devices", { workers: { devices: ["gpu0"] } }],
    [
      "an option of another policy",
      "/strategy/aggregation",
      { strategy: { rank_assignment: { name: "list", ranks: [8] }, aggregation: { name: "flora", weights: "uniform" } } },
    ],
  ])("refuse %s", (_, path, change) => {
    isRun({ ...parse(read(configs, "quickstart.yaml")), ...change });
    expect(isRun.errors?.map(({ instancePath }) => instancePath)).toContainEqual(expect.stringContaining(path));
  });
});

describe("the YAML examples of configs/README.md", () => {
  const blocks = [...read(configs, "README.md").matchAll(/^```yaml\n([^]*?)^```$/gm)].map(([, block = ""]) => block);
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "prelort-reference-"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it("are a run and two comparisons", () => {
    expect(blocks.map((block) => (block.includes("compare.schema") ? "comparison" : "run"))).toEqual(["run", "comparison", "comparison"]);
  });

  it("are valid", async () => {
    const [run = "", ...comparisons] = blocks;
    const [method = ""] = snippets(readDocument("configs/README.md"), "js");
    await writeFile(join(folder, "slow.mjs"), method.replace('"prelort"', JSON.stringify(join(root, "src/index.ts"))));
    await mkdir(join(folder, "my-encoder"));
    await writeFile(join(folder, "speeches.csv"), "");
    await writeFile(join(folder, "my-run.yaml"), run);
    for (const comparison of comparisons) {
      await writeFile(join(folder, "compare.yaml"), comparison);
      const { setting, methods } = await loadComparison(join(folder, "compare.yaml"));
      for (const each of methods) expect((await loadConfig(setting, { given: assignments(each) })).rounds).toBe(4);
    }
  });
});
