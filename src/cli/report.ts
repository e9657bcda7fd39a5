import { Command } from "commander";
import { writeReportOf } from "../report/html.ts";
import { readRun } from "../records/read-run.ts";
import { reportTables } from "../report/tables.ts";
import { summarise } from "../report/summary.ts";
import { renderTextTable } from "../report/text-table.ts";
import { visibleIn } from "../report/visible.ts";
import { outputWidth, print } from "./output.ts";

export function reportCommand(): Command {
  return new Command("report")
    .description("print a run's tables and write its report.html")
    .argument("<run-dir>", "run directory, such as runs/quickstart")
    .action(async (directory: string) => {
      const run = await readRun(directory);
      // Written before printing: `prelort report … | head` ends this process at the first line that nobody reads.
      const file = await writeReportOf(run);
      const { name, method } = visibleIn({ name: run.record.name, method: run.record.method });
      print(`${name}: ${summarise(run)}\n`);
      for (const table of reportTables(run)) print(`${renderTextTable(table, outputWidth())}\n`);
      print(`${method.name}: ${method.note}\n\nreport:    ${file}`);
    });
}
