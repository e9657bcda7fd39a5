import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { snakeKeys } from "../../../src/base/case.ts";
import { readRun } from "../../../src/records/read-run.ts";
import { samplesTables } from "../../../src/report/samples.ts";
import { reportTables } from "../../../src/report/tables.ts";
import { renderTextTable } from "../../../src/report/text-table.ts";
import { writeReportOf } from "../../../src/report/html.ts";
import { writeRunFixture } from "../../support/trained-run.ts";

const tell = (answers: readonly string[]) => [
  { prompt: "Define <b>föhn</b>:", reference: "a warm wind", answers: answers.map((text, index) => ({ r: 4 * index + 1, text })) },
];

/** A run of six rounds that told samples in the first and in the last. */
async function runWithSamples(first: readonly string[], last: readonly string[]) {
  const directory = await mkdtemp(path.join(tmpdir(), "prelort-samples-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  await writeRunFixture(directory);
  const { rounds } = await readRun(directory);
  const told = rounds.map((round, index) => ({
    ...round,
    ...(index === 0 && { samples: tell(first) }),
    ...(index === rounds.length - 1 && last.length > 0 && { samples: tell(last) }),
  }));
  await writeFile(path.join(directory, "metrics.jsonl"), told.map((round) => `${JSON.stringify(snakeKeys(round))}\n`).join(""));
  return readRun(directory);
}

test("a sample has a table: its prompt, the reference, and each tier's answer before and after", async () => {
  const run = await runWithSamples(["wind wind", "a"], ["a wind", "a warm\u001b[31m wind"]);
  const last = run.rounds.at(-1)!.round;
  expect(samplesTables(run.rounds)).toEqual([
    {
      title: "Sample 1: Define <b>föhn</b>:",
      columns: ["rank", "before", `after round ${last}`],
      rows: [
        ["reference", "a warm wind", "a warm wind"],
        ["1", "wind wind", "a wind"],
        ["5", "a", "a warm\u001b[31m wind"],
      ],
      prose: [1, 2],
    },
  ]);
  // From data, and so escaped.
  const [table] = reportTables(run).filter(({ title }) => title.startsWith("Sample"));
  expect(renderTextTable(table!)).not.toContain("\u001b");
  const page = await readFile(await writeReportOf(run), "utf8");
  expect(page).toContain("Define &#60;b&#62;föhn&#60;/b&#62;:");
  for (const raw of ["<b>föhn", "\u001b"]) expect(page).not.toContain(raw);
});

test("a run under way has the answers from before training alone; one without samples has no such table", async () => {
  const run = await runWithSamples(["wind"], []);
  expect(samplesTables(run.rounds)[0]).toMatchObject({
    columns: ["rank", "before", "after"],
    rows: [
      ["reference", "a warm wind", ""],
      ["1", "wind", ""],
    ],
  });
  expect(samplesTables(run.rounds.slice(1))).toEqual([]);
});
