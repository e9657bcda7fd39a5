import path from "node:path";
import { isDeepStrictEqual } from "node:util";
import { buildRun } from "../config/build.ts";
import { resolveTiers } from "../config/resolve-tiers.ts";
import { assignments, type Comparison, type ComparisonMethod } from "../config/comparison.ts";
import { loadConfig } from "../config/load.ts";
import type { RunConfig } from "../config/schema.ts";
import { ConfigError, type ConfigIssue } from "../errors.ts";

/** Builds the config of one of a method's runs; `set` holds what the run adds to the method's keys, as `--set` takes it. */
export type ConfigOf = (method: ComparisonMethod, set: readonly string[]) => Promise<RunConfig>;

/** `common` applies to every method, but a method's own keys take precedence. */
export function configsOver({ setting, name, runsDir }: Comparison, common: readonly string[] = []): ConfigOf {
  const folder = `runs_dir=${JSON.stringify(path.join(runsDir, name))}`;
  const given = common.map((assignment) => ({ option: "--set", assignment }));
  return async (method, set) => buildRun(await loadConfig(setting, { given: [...given, ...assignments(method)], set: [folder, ...set] }));
}

/** Refuses methods that change what all must share: the data, the model, the rounds, the evaluation and the ranks. */
export async function requireOneSetting(methods: readonly ComparisonMethod[], configOf: ConfigOf): Promise<void> {
  const configs = await configsOf(methods, configOf);
  const issues = settingIssues(
    methods.map(({ name }) => name),
    configs.map(sharedParts),
  );
  if (issues.length > 0) throw new ConfigError(issues);
}

/** Throws a ConfigError with what is wrong with any of them, once if it is the setting's. */
async function configsOf(methods: readonly ComparisonMethod[], configOf: ConfigOf): Promise<readonly RunConfig[]> {
  const outcomes = await Promise.allSettled(methods.map((method) => configOf(method, [])));
  const errors = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason as unknown] : []));
  const other = errors.find((error) => !(error instanceof ConfigError));
  if (other !== undefined) throw other;
  const issues = errors.flatMap((error) => (error as ConfigError).issues);
  if (issues.length > 0) throw new ConfigError([...new Map(issues.map((issue) => [JSON.stringify(issue), issue])).values()]);
  return outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value] : []));
}

/** What methods have in common, by the name of its key. */
type SharedParts = Readonly<Record<string, unknown>>;

function sharedParts({ data, model, rounds, evaluate, stopWhen, lora, ...config }: RunConfig): SharedParts {
  const { r, scale, target_modules } = lora;
  return {
    data,
    model,
    rounds,
    evaluate,
    stop_when: stopWhen,
    "lora.r": r,
    "lora.scale": scale,
    "lora.target_modules": target_modules,
    tiers: resolveTiers({ lora, ...config }),
  };
}

/** An issue for every part in which a method differs from the first; `names` and `shared` are in the order of the methods. */
export function settingIssues(names: readonly string[], shared: readonly SharedParts[]): readonly ConfigIssue[] {
  return shared.flatMap((parts, index) =>
    Object.entries(parts)
      .filter(([key, value]) => !isDeepStrictEqual(value, shared[0]?.[key]))
      .map(([key]) => ({
        path: `methods[${index}].set`,
        message: `"${names[index]}" differs from "${names[0]}" in ${key}, which all methods must share`,
      })),
  );
}
