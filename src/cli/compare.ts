import { availableParallelism } from "node:os";
import path from "node:path";
import { Command, Option } from "commander";
import { compare } from "../compare/compare.ts";
import { comparisonMarkdown } from "../compare/table.ts";
import { writeComparison } from "../compare/write.ts";
import { loadComparison } from "../config/comparison.ts";
import { loadConfig } from "../config/load.ts";
import type { RunConfig } from "../config/schema.ts";
import { RunFailedError } from "../errors.ts";
import { formatSeconds } from "../report/format.ts";
import { countWorkers, resolveDevices } from "../workers/devices.ts";
import { createLanes, type Lanes } from "../workers/lanes.ts";
import { findPython, requirePython } from "../workers/python.ts";
import { positiveNumber } from "./arguments.ts";
import { ofMany, onInterrupt } from "./interrupt.ts";
import { complain, print } from "./output.ts";

interface CompareOptions {
  readonly set: readonly string[];
  readonly overwrite: boolean;
  readonly jobs?: number;
  readonly sideBySide?: number;
}

export function compareCommand(): Command {
  return new Command("compare")
    .description("run methods × seeds over one setting; write compare.json, compare.md and compare.svg; resumes a stopped comparison")
    .argument("<config>", "YAML file, such as configs/compare-generation-llama.yaml")
    .option(
      "--set <key=value>",
      "override a key of the setting for every method",
      (value: string, previous: string[]) => [...previous, value],
      [],
    )
    .option("--overwrite", "replace finished runs of another config", false)
    .option("--jobs <n>", "runs at a time; default: as many as there are cores for their workers' threads", positiveNumber)
    .addOption(
      new Option(
        "--side-by-side <n>",
        "runs at a time, which train as one batch: faster for small models without dropout, equal figures up to rounding",
      )
        .argParser(positiveNumber)
        .conflicts("jobs"),
    )
    .action(run);
}

async function run(file: string, { set, overwrite, jobs, sideBySide }: CompareOptions): Promise<void> {
  const comparison = await loadComparison(file);
  const { workers } = await loadConfig(comparison.setting, { set });
  const atATime = await runsAtATime(workers);
  const interrupt = onInterrupt(complain);
  const started = performance.now();
  const lanes = sideBySide === undefined ? undefined : await openLanes(workers, sideBySide);
  try {
    const comparing = compare(comparison, {
      set,
      overwrite,
      jobs: sideBySide ?? jobs ?? atATime,
      lanes,
      signal: interrupt.signal,
      onRun: ({ name, state, finished, planned }) => {
        if (state === "kept") return;
        const time = formatSeconds((performance.now() - started) / 1000);
        print(`[${time}] ${state} ${name} (${finished} of ${planned} done)`);
      },
    });
    const result = await ofMany("comparison", comparing);
    const files = await writeComparison(result, path.resolve(comparison.runsDir, comparison.name));
    print(`\n${comparisonMarkdown(result)}\n${files.join("\n")}`);
    if (result.missing.length > 0) throw new RunFailedError(`${result.missing.length} runs failed:\n${result.missing.join("\n")}`);
  } finally {
    await lanes?.close();
    interrupt.dispose();
  }
}

/** Workers for as many runs at a time, which train side by side. */
export async function openLanes(workers: RunConfig["workers"], lanes: number): Promise<Lanes> {
  const command = findPython(workers.python);
  await requirePython(command);
  return createLanes({ command, processes: Math.min(await runsAtATime(workers), lanes) });
}

/** As many as there are cores for their workers' threads. */
async function runsAtATime(workers: RunConfig["workers"]): Promise<number> {
  const threads = countWorkers(await resolveDevices(workers), workers) * workers.threads;
  return Math.max(1, Math.floor(availableParallelism() / threads));
}
