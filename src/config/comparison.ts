import path from "node:path";
import { z } from "zod";
import { ConfigError } from "../errors.ts";
import { snakeKeys, toSnake } from "../base/case.ts";
import { check, formatPath } from "./check.ts";
import { readText } from "./load.ts";
import type { Assignment } from "./override.ts";
import { integer, positive } from "./policy-specs.ts";
import { name as runName } from "./sections.ts";
import { isMap } from "./tree.ts";
import { placeKey, readYaml } from "./yaml-source.ts";

/* A comparison: methods × seeds over one setting, the config of a run. */

const method = z.strictObject({
  name: z.string().min(1).max(60).describe("Name of the method in the tables, and of its runs' folders."),
  family: z
    .string()
    .min(1)
    .max(60)
    .default("all")
    .describe("Methods of one family share the learning rate that the family's first method was tuned to."),
  seeds: z
    .array(integer)
    .min(1)
    .readonly()
    .optional()
    .describe("Seeds to run this method with, out of those of the comparison. Default: all."),
  set: z
    .record(z.string(), z.unknown())
    .default({})
    .describe(
      "Keys of the setting that this method changes, spelled as for --set: { fit.objective: none }. null removes a key (of fit.full_weight, it is the value). Paths are relative to this file. A method that sets fit.lr keeps it: it is neither tuned nor given its family's.",
    ),
});

export const comparisonSchema = z
  .strictObject({
    name: runName.describe("Name of the comparison, and of its folder in runs_dir."),
    runsDir: z.string().min(1).default("runs").describe("Folder for the comparison, relative to the working directory."),
    setting: z.string().min(1).describe("Config file of the run that all methods share, relative to this file."),
    seeds: z.array(integer.min(0)).min(1).readonly().describe("Seeds; each method runs once with each."),
    budgets: z
      .array(z.enum(["rounds", "compute"]))
      .min(1)
      .default(["rounds", "compute"])
      .describe(
        "How methods of different cost are compared. rounds: each trains the setting's rounds and local steps; compute: a method with more passes per step takes proportionally fewer steps.",
      ),
    learningRates: z
      .strictObject({
        values: z.array(z.number().positive()).min(1).describe("Learning rates (fit.lr) to try."),
        rounds: positive.describe("Rounds to train with each."),
        seed: integer.min(0).describe("Seed of these runs, not one of seeds."),
      })
      .optional()
      .describe("Tunes each family's learning rate: the one with the lowest mean loss over the tiers. Default: the setting's, untuned."),
    reference: z.string().describe("Name of the method that the others are compared with, seed by seed."),
    methods: z.array(method).min(2).readonly().describe("The methods to compare, at least two."),
  })
  .superRefine(({ seeds, learningRates, reference, methods }, context) => {
    const report = (at: (string | number)[], message: string) => context.addIssue({ code: "custom", path: at, message });
    if (new Set(seeds).size < seeds.length) report(["seeds"], `must not repeat, got [${seeds.join(", ")}]`);
    if (learningRates && seeds.includes(learningRates.seed))
      report(["learningRates", "seed"], `must not be one of seeds, got ${learningRates.seed}`);
    if (learningRates && methods.every(setsLearningRate))
      report(["learningRates"], "tunes nothing, since every method sets fit.lr: leave it out");
    if (!methods.some(({ name }) => name === reference))
      report(["reference"], `must be the name of one of the methods, got "${reference}"`);
    for (const [index, { seeds: own = [] }] of methods.entries()) {
      if (own.some((seed) => !seeds.includes(seed))) report(["methods", index, "seeds"], `must be among seeds, got [${own.join(", ")}]`);
    }
    const values = learningRates?.values ?? [];
    if (new Set(values).size < values.length) report(["learningRates", "values"], `must not repeat, got [${values.join(", ")}]`);
    const families = [...new Set(methods.map(({ family }) => family))];
    for (const [index, { name, family }] of methods.entries()) {
      if (slug(name) === "") report(["methods", index, "name"], "must contain a letter from a to z or a digit, since it names a folder");
      const alike = families.find((other) => other !== family && slug(other) === slug(family));
      if (slug(family) === "" || alike !== undefined) {
        report(
          ["methods", index, "family"],
          "must contain a letter from a to z or a digit, and differ from other families in more than punctuation",
        );
      }
    }
    const slugs = methods.map(({ name }) => slug(name));
    const repeated = methods.findIndex(({ name }, index) => slugs.indexOf(slug(name)) !== index);
    if (repeated >= 0) report(["methods", repeated, "name"], "must differ from the other names in more than punctuation");
  });

/** `writtenAt` is where a file has each key of `set`, whose paths are relative to that file's folder; else to the working directory. */
export type ComparisonMethod = z.output<typeof method> & {
  readonly writtenAt?: Readonly<Record<string, NonNullable<Assignment["writtenAt"]>>> | undefined;
};

/** Whether a method has a learning rate of its own, which is then not tuned. */
export function setsLearningRate({ set }: Pick<ComparisonMethod, "set">): boolean {
  return Object.entries(set).some(([key, value]) => key === "fit.lr" || (key === "fit" && isMap(value) && "lr" in value));
}

export type Comparison = Omit<z.output<typeof comparisonSchema>, "methods"> & { readonly methods: readonly ComparisonMethod[] };

/** Reads and validates a comparison; `setting` becomes absolute. Runs no code. Throws a ConfigError with every problem. */
export async function loadComparison(file: string): Promise<Comparison> {
  const source = readYaml(await readText(file), file);
  const { value, problems = [] } = source.broken ? {} : check(comparisonSchema, source.value, "snake_case");
  const wrong = problems.map(({ path: at, message, at: side }) => {
    const location = source.places.get(placeKey(at))?.[side].location ?? `${file}:1:1`;
    return { path: formatPath(at, "snake_case") || "config", message, location };
  });
  const misread = source.findings.map(({ path: at, message, place }) => {
    return { path: formatPath(at, "snake_case") || "config", message, location: place.location };
  });
  if (value === undefined || misread.length + wrong.length > 0) throw new ConfigError([...misread, ...wrong]);
  const folder = path.resolve(path.dirname(file));
  const methods = value.methods.map((each, index) => {
    const places = Object.keys(each.set).map((key) => {
      const location = source.places.get(placeKey(["methods", index, "set", key]))?.value.location ?? `${file}:1:1`;
      return [key, { location, folder }] as const;
    });
    return { ...each, writtenAt: Object.fromEntries(places) };
  });
  return { ...value, setting: path.resolve(folder, value.setting), methods };
}

/** A method's changes to the setting, as `--set` would make them; JSON is valid YAML. Null removes a key, unless it means something. */
export function assignments({ set, writtenAt }: ComparisonMethod): readonly Assignment[] {
  return Object.entries(set).map(([key, value]) => {
    const isRemoved = value === null && toSnake(key) !== "fit.full_weight";
    const assignment = `${toSnake(key)}=${isRemoved ? "" : JSON.stringify(snakeKeys(value))}`;
    return { option: "--set", assignment, writtenAt: writtenAt?.[key] };
  });
}

/** A name in a form that a folder's name can contain. */
export function slug(name: string): string {
  return name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "");
}
