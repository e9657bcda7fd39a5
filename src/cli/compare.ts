import { availableParallelism } from "node:os";
import path from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { compare } from "../compare/compare.ts";
import { comparisonMarkdown } from "../compare/table.ts";
import { writeComparison } from "../compare/write.ts";
import { loadComparison } from "../config/comparison.ts";
import { loadConfig } from "../config/load.ts";
import { RunFailedError } from "../errors.ts";
import { formatSeconds } from "../report/format.ts";
import { countWorkers, resolveDevices } from "../workers/devices.ts";
import { onInterrupt } from "./interrupt.ts";
import { complain, print } from "./output.ts";

interface CompareOptions {
  readonly set: readonly string[];
  readonly overwrite: boolean;
  readonly jobs?: number;
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
    .option("--jobs <n>", "runs at a time; default: as many as there are cores for their workers' threads", parseJobs)
    .action(run);
}

async function run(file: string, { set, overwrite, jobs }: CompareOptions): Promise<void> {
  const comparison = await loadComparison(file);
  const { workers } = await loadConfig(comparison.setting, { set });
  const threads = countWorkers(await resolveDevices(workers), workers) * workers.threads;
  const interrupt = onInterrupt(complain);
  const started = performance.now();
  try {
    const result = await compare(comparison, {
      set,
      overwrite,
      jobs: jobs ?? Math.max(1, Math.floor(availableParallelism() / threads)),
      signal: interrupt.signal,
      onRun: ({ name, state, finished, planned }) => {
        if (state === "kept") return;
        const time = formatSeconds((performance.now() - started) / 1000);
        print(`[${time}] ${state} ${name} (${finished} of ${planned} done)`);
      },
    });
    const files = await writeComparison(result, path.resolve(comparison.runsDir, comparison.name));
    print(`\n${comparisonMarkdown(result)}\n${files.join("\n")}`);
    if (result.missing.length > 0) throw new RunFailedError(`${result.missing.length} runs failed:\n${result.missing.join("\n")}`);
  } finally {
    interrupt.dispose();
  }
}

function parseJobs(value: string): number {
  const jobs = Number(value);
  if (!Number.isSafeInteger(jobs) || jobs < 1) throw new InvalidArgumentError("must be a whole number of at least 1.");
  return jobs;
}
