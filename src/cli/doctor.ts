import { Command } from "commander";
import { EnvironmentError } from "../errors.ts";
import { renderTextTable } from "../report/text-table.ts";
import { outputWidth, print, printJson } from "./output.ts";
import { examine, type Finding } from "./setup/examine.ts";

export function doctorCommand(): Command {
  return new Command("doctor")
    .description("show what is there and what is missing: Python, packages, devices, model, data")
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

/** What was expected is told where something else was found, or nothing. */
export function describe(findings: readonly Finding[], width: number): string {
  const rows = findings.map(({ name, status, found, expected }) => {
    if (status === "ok" || expected === undefined) return [name, status, found];
    // What is absent is not needed by every run; `expected` then says what it is for.
    return [name, status, status === "absent" ? `${found} (${expected})` : `${found}; expected ${expected}`];
  });
  return renderTextTable({ title: "", columns: ["", "status", "found"], rows, prose: [1, 2] }, width);
}
