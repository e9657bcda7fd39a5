import { Command } from "commander";
import stringWidth from "string-width";
import wrapAnsi from "wrap-ansi";
import { EnvironmentError } from "../errors.ts";
import { visibleLine } from "../report/visible.ts";
import { buildRun } from "../config/build.ts";
import { openConfig, withConfig } from "../config/load.ts";
import { onInterrupt } from "./interrupt.ts";
import { complain, outputWidth, print, printJson, tellOnce } from "./output.ts";
import { examine, type Finding } from "../setup/examine.ts";
import { examineWorkers } from "../setup/examine-workers.ts";

export function doctorCommand(): Command {
  return new Command("doctor")
    .description("show what is installed and what is missing: Python, packages, devices, model, data")
    .option("--cluster <config>", "start a worker where this config runs them, and show what it finds there")
    .option("--set <key=value>", "override a key of that config", (value: string, previous: string[]) => [...previous, value], [])
    .option("--json", "print the findings as JSON", false)
    .action(doctor);
}

interface DoctorOptions {
  readonly cluster?: string;
  readonly set: readonly string[];
  readonly json: boolean;
}

async function doctor({ json, cluster, set }: DoctorOptions): Promise<void> {
  const findings = cluster === undefined ? await examine() : await examineCluster(cluster, set);
  if (json) printJson({ findings });
  else print(describe(findings, outputWidth()));
  const missing = findings.filter(({ status }) => status === "missing");
  const remedies = new Set(missing.map(({ remedy }) => remedy));
  if (missing.length > 0) {
    throw new EnvironmentError(`what a run needs is missing: ${missing.map(({ name }) => name).join(", ")}`, [...remedies].join("; "));
  }
}

async function examineCluster(file: string, set: readonly string[]): Promise<readonly Finding[]> {
  const interrupt = onInterrupt(complain, "nothing was changed");
  try {
    const loaded = await openConfig(file, { set });
    return await withConfig(loaded, (config) => examineWorkers(buildRun(config), tellOnce(complain), interrupt.signal));
  } finally {
    interrupt.dispose();
  }
}

/** One line per finding, or more if it is too long. The expected value is shown if it differs from the one found. */
export function describe(findings: readonly Finding[], width: number): string {
  const widest = findings.reduce((most, { name }) => Math.max(most, name.length), 0);
  const lines = findings.map(({ name, ...finding }) => {
    const { status } = finding;
    const details = detailsOf(finding);
    const line = `${status.padEnd(INDENT)}${name.padEnd(widest)}  ${visibleLine(details)}`;
    if (stringWidth(line) <= width && !details.includes("\n")) return line;
    const lines = details
      .split("\n")
      .filter((part) => part.trim() !== "")
      .flatMap((part) => wrapAnsi(visibleLine(part), width - INDENT).split("\n"));
    return [`${status.padEnd(INDENT)}${name}`, ...lines.map((part) => " ".repeat(INDENT) + part)].join("\n");
  });
  return lines.join("\n");
}

function detailsOf({ status, found, expected, remedy }: Omit<Finding, "name">): string {
  if (status === "ok" || expected === undefined) return found;
  // Not every run needs what is absent; `expected` then says what it is for.
  return status === "absent" ? `${found} (${expected}): ${remedy}` : `${found}; expected ${expected}`;
}

/** Columns of the longest status and a gap. */
const INDENT = 9;
