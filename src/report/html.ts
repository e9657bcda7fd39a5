import { join } from "node:path";
import { writeDurably } from "../records/durable-file.ts";
import { readRun, type RecordedRun } from "../records/read-run.ts";

/** Writes `report.html` into a run directory: one file that needs no network. Returns its path. */
export async function writeReport(directory: string): Promise<string> {
  return writeReportOf(await readRun(directory));
}

export async function writeReportOf(run: RecordedRun): Promise<string> {
  // The drawing library takes longer to load than everything else together.
  const { renderPage } = await import("./page.ts");
  const path = join(run.directory, "report.html");
  await writeDurably(path, renderPage(run));
  return path;
}
