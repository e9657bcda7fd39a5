import process from "node:process";
import Table from "cli-table3";
import { Command } from "commander";
import { EnvironmentError } from "../errors.ts";
import { examine, type Finding } from "./setup/examine.ts";

export function doctorCommand(): Command {
  return new Command("doctor")
    .description("show what is there and what is missing: Python, packages, devices, model, data")
    .option("--json", "print the findings as JSON", false)
    .action(doctor);
}

async function doctor({ json }: { readonly json: boolean }): Promise<void> {
  const findings = await examine();
  process.stdout.write(json ? `${JSON.stringify({ findings })}\n` : `${describe(findings)}\n`);
  const missing = findings.filter(({ status }) => status === "missing");
  const remedies = new Set(missing.map(({ remedy }) => remedy));
  if (missing.length > 0) {
    throw new EnvironmentError(`what a run needs is missing: ${missing.map(({ name }) => name).join(", ")}`, [...remedies].join("; "));
  }
}

function describe(findings: readonly Finding[]): string {
  const table = new Table({ head: ["", "status", "found", "expected"], style: { head: [], border: [] }, chars: noRules });
  for (const { name, status, found, expected } of findings) table.push([name, status, found, expected ?? ""]);
  return table.toString();
}

const noRules = { mid: "", "left-mid": "", "mid-mid": "", "right-mid": "" };
