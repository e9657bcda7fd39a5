import process from "node:process";
import { Command } from "commander";
import { writeReportOf } from "../report/html.ts";
import { readRun } from "../report/read-run.ts";
import { reportTables } from "../report/tables.ts";
import { summarise } from "../report/summary.ts";
import { renderTextTable } from "../report/text-table.ts";

export function reportCommand(): Command {
  return new Command("report")
    .description("print a run's tables and write its report.html")
    .argument("<run-dir>", "directory of a run, such as runs/quickstart")
    .action(async (directory: string) => {
      const run = await readRun(directory);
      // Before anything is printed: `prelort report … | head` ends at the first line that nobody reads.
      const file = await writeReportOf(run);
      process.stdout.write(`${run.record.name}: ${summarise(run)}\n\n`);
      for (const table of reportTables(run)) process.stdout.write(`${renderTextTable(table)}\n\n`);
      process.stdout.write(`${run.record.method.name}: ${run.record.method.note}\n\nreport:    ${file}\n`);
    });
}
