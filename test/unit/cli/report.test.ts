import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { reportCommand } from "../../../src/cli/report.ts";
import { writeRunFixture } from "../../support/trained-run.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "prelort-report-"));
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(directory, { recursive: true });
});

it("prelort report prints the tables and the path of the report", async () => {
  await writeRunFixture(directory);
  const write = vi.spyOn(process.stdout, "write").mockReturnValue(true);
  await reportCommand().parseAsync([directory], { from: "user" });
  const printed = write.mock.calls.map(([text]) => String(text)).join("");
  for (const title of ["Quality at each tier", "Round by round", "Clients", "Traffic"]) expect(printed).toContain(title);
  const path = join(directory, "report.html");
  expect(printed).toMatch(new RegExp(`report: {4}${path}\n$`));
  expect(await readFile(path, "utf8")).toMatch(/^<!doctype html>/);
});
