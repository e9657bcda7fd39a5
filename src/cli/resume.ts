import path from "node:path";
import { Command } from "commander";
import { buildRun } from "../config/build.ts";
import { withConfig } from "../config/load.ts";
import { ConfigError } from "../errors.ts";
import { recordedRun } from "../records/recorded-run.ts";
import type { TrackerSpec } from "../config/track-section.ts";
import { unnamedTrackers } from "../records/named-code.ts";
import { perform, type ShownOptions, withRunOptions } from "./run.ts";

export function resumeCommand(): Command {
  const command = new Command("resume")
    .description("continue a run that was stopped; the result has the bytes of an uninterrupted run")
    .argument("<run-dir>", "run directory, such as runs/quickstart");
  return withRunOptions(command, "override a key that does not change the result, such as --set workers.count=1").action(resume);
}

/** Keys that follow from where the run directory is. */
const FIXED = new Map([
  ["name", "is the name of the resumed run and cannot be changed"],
  ["runs_dir", "is the folder of the resumed run and cannot be changed"],
]);

export function requireNotMoved(set: readonly string[]): void {
  const keys = set.map((assignment) => assignment.split("=")[0] as string);
  const issues = [...FIXED].flatMap(([path, message]) =>
    keys.includes(path) ? [{ path, message, location: `--set ${path}`, isArgument: true }] : [],
  );
  if (issues.length > 0) throw new ConfigError(issues);
}

/** A run directory may come from somebody else: its record alone sends nothing anywhere. */
function requireNamedTrackers(trackers: readonly TrackerSpec[]): void {
  const issues = unnamedTrackers(trackers).map(({ key, value }) => {
    const remedy = `if you trust it, add --set '${key}=[${value}]', or --set ${key}= to go on without it`;
    return { path: key, message: `nothing is sent to where only run.json says: ${remedy}` };
  });
  if (issues.length > 0) throw new ConfigError(issues);
}

async function resume(directory: string, { set, ...shown }: ShownOptions & { readonly set: readonly string[] }): Promise<void> {
  requireNotMoved(set);
  const root = path.resolve(directory);
  const here = { name: path.basename(root), runsDir: path.dirname(root), resume: true };
  await withConfig(await recordedRun(directory, { set, inScript: "federate({ …, resume: true })" }), (config) => {
    if (!set.some((assignment) => /^track[=.[]/.test(assignment))) requireNamedTrackers(config.track);
    return perform({ ...buildRun(config), ...here }, shown);
  });
}
