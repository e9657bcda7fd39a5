import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { mixOf } from "../../../src/protocol/client-columns.ts";
import { labelCountsOf } from "../../../src/protocol/client-columns.ts";
import { readClients, readReadyRecord, runRecord } from "../../../src/records/run-record.ts";
import { federate, verifyRun, writeReport } from "../../../src/index.ts";
import { tinyLauncher, tinyRun, type TinyRunOptions } from "../../../src/testing/index.ts";

/** Rewrites a run's record as versions before protocol 9 wrote it: all clients in run.json, and another format of prepared data. */
async function makeOlder(directory: string, changes: object = {}): Promise<void> {
  const record = await readReadyRecord(directory, runRecord);
  const columns = await readClients(directory, record);
  const clients = columns.ids.map((id, index) => ({
    id,
    n: columns.n[index],
    r: columns.r[index],
    label_counts: labelCountsOf(columns.labelCounts, index, record.labels.length),
    mix: mixOf(columns, index),
    tokens: columns.tokens[index],
    ...(index === 0 && changes),
  }));
  const file = path.join(directory, "run.json");
  const written = JSON.parse(readFileSync(file, "utf8")) as object;
  writeFileSync(file, JSON.stringify({ ...written, index: { path: "/old", sha256: "0".repeat(64) }, clients }, null, 2));
  rmSync(path.join(directory, "clients.json"));
}

/** A run that was interrupted in its second round by an earlier version. */
async function interrupted(options: TinyRunOptions): Promise<string> {
  const controller = new AbortController();
  const launcher = tinyLauncher({
    fit({ round, train }) {
      if (round === 2) controller.abort();
      return train();
    },
  });
  await expect(federate(tinyRun({ ...options, launcher, signal: controller.signal })).result).rejects.toMatchObject({
    kind: "interrupted",
  });
  return path.join(options.runsDir, options.name ?? "");
}

function temporary(): string {
  const folder = mkdtempSync(path.join(tmpdir(), "prelort-earlier-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

test("a run that lists its clients in run.json is resumed to the same bytes, verified and reported", async () => {
  const runsDir = temporary();
  const whole = await federate(tinyRun({ runsDir, name: "whole" })).result;
  const directory = await interrupted({ runsDir, name: "older", recordUpdates: true });
  await makeOlder(directory);
  const resumed = await federate(tinyRun({ runsDir, name: "older", recordUpdates: true, resume: true })).result;
  expect(resumed.sha256).toBe(whole.sha256);
  expect(existsSync(path.join(directory, "clients.json"))).toBe(false);
  expect((await verifyRun(directory)).map(({ updates, problems }) => [updates, problems])).toEqual([
    [0, []],
    [8, []],
    [8, []],
    [8, []],
  ]);
  const [report, other] = [await writeReport(directory), await writeReport(whole.directory)].map((file) => readFileSync(file, "utf8"));
  const tableOf = (page: string | undefined) => page?.slice(page.indexOf("<h2>Clients</h2>"), page.indexOf("<h2>Traffic</h2>"));
  expect(tableOf(report)).toBe(tableOf(other));
});

test("a run that lists other clients in run.json is not resumed", async () => {
  const runsDir = temporary();
  await makeOlder(await interrupted({ runsDir, name: "older" }), { n: 31 });
  await expect(federate(tinyRun({ runsDir, name: "older", resume: true })).result).rejects.toMatchObject({
    issues: [{ path: "clients.sha256", message: expect.stringMatching(/\bdata and model\b/) }],
  });
});
