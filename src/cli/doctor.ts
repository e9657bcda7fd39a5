import { Command } from "commander";
import stringWidth from "string-width";
import wrapAnsi from "wrap-ansi";
import { EnvironmentError } from "../errors.ts";
import { visibleLine } from "../report/visible.ts";
import { outputWidth, print, printJson } from "./output.ts";
import { examine, type Finding } from "../setup/examine.ts";

export function doctorCommand(): Command {
  return new Command("doctor")
    .description("show what is installed and what is missing: Python, packages, devices, model, data")
    .option("--json", "print the findings as JSON", false)
    .action(doctor);
}

async function doctor({ json }: { readonly json: boolean }): Promise<void> {
  const findings = await examine();
  if (json) printJson({ findings });
  else print(describe(findings, outputWidth()));
  const missing = findings.filter(({ status }) => status === "missing");
  const remedies = new Set(missing.map(({ remedy }) => remedy));
  if (missing.length > 0) {
    throw new EnvironmentError(`what a run needs is missing: ${missing.map(({ name }) => name).join(", ")}`, [...remedies].join("; "));
  }
}

/** One line per finding, or more if it is too long. The expected value is shown if it differs from the one found. */
export function describe(findings: readonly Finding[], width: number): string {
  const widest = findings.reduce((most, { name }) => Math.max(most, name.length), 0);
  const lines = findings.map(({ name, ...finding }) => {
    const { status } = finding;
    const details = detailsOf(finding);
    const line = `${status.padEnd(INDENT)}${name.padEnd(widest)}  ${visibleLine(details)}`;
    if (stringWidth(line) <= width) return line;
    return `${status.padEnd(INDENT)}${name}\n${" ".repeat(INDENT)}${wrapAnsi(visibleLine(details), width - INDENT).replaceAll("\n", `\n${" ".repeat(INDENT)}`)}`;
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
