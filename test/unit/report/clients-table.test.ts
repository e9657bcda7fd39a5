import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { startsOf } from "../../../src/protocol/client-columns.ts";
import { readRun, type RecordedRun } from "../../../src/records/read-run.ts";
import { clientsTable } from "../../../src/report/clients-table.ts";
import { renderPage } from "../../../src/report/page.ts";
import { writeRunFixture } from "../../support/trained-run.ts";

/** A recorded run with so many clients in place of its own: client k has 1 + k mod 100 examples, all with one label and value. */
async function runOf(count: number): Promise<RecordedRun> {
  const directory = mkdtempSync(path.join(tmpdir(), "prelort-report-"));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  await writeRunFixture(directory);
  const run = await readRun(directory);
  const n = Uint32Array.from({ length: count }, (_, index) => 1 + (index % 100));
  const one = { starts: startsOf(new Uint32Array(count).fill(1)), keys: new Uint32Array(count), counts: n };
  const ids = Array.from({ length: count }, (_, index) => `k${index}`);
  const clients = { ids, n, r: new Uint32Array(count).fill(4), tokens: n, labelCounts: one, mix: one, values: ["noun.animal"] };
  return { ...run, clients };
}

test("a table of few clients lists them all", async () => {
  const { title, rows } = clientsTable(await runOf(60));
  expect(title).toBe("Clients");
  expect(rows).toHaveLength(60);
  expect(rows[3]).toEqual(["k3", "4", "4", "1 of 4", "0", "0"]);
});

test("a table of many clients has their totals, and the largest and the smallest of them", async () => {
  const { title, rows } = clientsTable(await runOf(5000));
  expect(title).toBe("Clients: the 10 largest and the 10 smallest of 5,000");
  expect(rows.map(([name]) => name)).toEqual([
    "all",
    "median",
    ...Array.from({ length: 10 }, (_, index) => `k${100 * index + 99}`),
    ...Array.from({ length: 10 }, (_, index) => `k${100 * index + 4000}`),
  ]);
  // Nine of the fixture's ten clients reported in every of its eight rounds, one in seven.
  expect(rows.slice(0, 3)).toEqual([
    ["all", "252,500", "—", "—", "79", "1"],
    ["median", "50", "—", "—", "—", "—"],
    ["k99", "100", "4", "1 of 4", "0", "0"],
  ]);
});

test("the report of 200,000 clients, with a rank for each in its config, stays small", async () => {
  const run = await runOf(200_000);
  const strategy = { rank_assignment: { name: "list", ranks: Array.from({ length: 200_000 }, () => 4) } };
  const page = renderPage({ ...run, record: { ...run.record, config: { ...run.record.config, strategy } } });
  expect(page.length).toBeLessThan(300_000);
  expect(page).toContain("and 199,900 more, see run.json");
  expect(page).toContain("the 50 largest and the 50 smallest of 200,000 clients");
});
