import { readdirSync, readFileSync } from "node:fs";
import { hostname } from "node:os";
import path from "node:path";
import { expect, test } from "vitest";
import { federate, type RunEvent, type RunResult } from "../../src/index.ts";
import { documentedFiles } from "../unit/records/documented-files.ts";
import { readLines, temporaryFolder, tinyRun, workersOf } from "../support/e2e.ts";

const runs = temporaryFolder();

async function follow(options: Parameters<typeof federate>[0]): Promise<{ events: RunEvent[]; result: RunResult }> {
  const run = federate(options);
  const events: RunEvent[] = [];
  for await (const event of run) events.push(event);
  return { events, result: await run.result };
}

test("a run trains every tier, reports every step as an event, and leaves a complete record", async () => {
  const { events, result } = await follow(tinyRun(runs(), "whole"));

  expect(result.metrics.map(({ round }) => round)).toEqual([0, 1, 2]);
  const [before, , after] = result.metrics;
  for (const [tier, { r, loss }] of (after?.byTier ?? []).entries()) {
    expect(loss, `loss at rank ${r} after training`).toBeLessThan(before?.byTier[tier]?.loss as number);
  }
  expect(after?.coverage.map(({ r, clients }) => [r, clients])).toEqual([
    [1, 4],
    [2, 3],
    [4, 2],
    [8, 1],
  ]);

  // Bytes for each target, which are those of the examples, whatever the rank and the round.
  const bytes = result.metrics.flatMap(({ byTier }) => byTier.map(({ loss, bitsPerByte }) => (loss ?? 0) / Math.LN2 / (bitsPerByte ?? 0)));
  expect(bytes).toHaveLength(12);
  for (const each of bytes) expect(each).toBeCloseTo(bytes[0] ?? 0, 10);
  expect(bytes[0]).toBeGreaterThan(1);
  for (const { intervals = [], own, ...tier } of result.metrics.flatMap(({ byTier }) => byTier)) {
    expect(intervals.map(({ name }) => name)).toEqual(["loss", "perplexity", "bits_per_byte", "token_accuracy"]);
    const values = [tier.loss, tier.perplexity, tier.bitsPerByte, own[0]?.value];
    for (const [index, { low, high }] of intervals.entries()) {
      expect(values[index]).toBeGreaterThanOrEqual(low);
      expect(values[index]).toBeLessThanOrEqual(high);
    }
  }

  const types = new Set(events.map(({ type }) => type));
  for (const type of ["worker-ready", "data-ready", "run-start", "round-start", "client-fit", "round-end", "run-end"] as const) {
    expect(types, type).toContain(type);
  }
  const fits = events.filter((event) => event.type === "client-fit");
  expect(fits).toHaveLength(8);
  const isKnown = process.platform === "linux";
  // A process that has imported PyTorch has more than 50 MB.
  for (const { peakMemoryBytes } of fits) expect(isKnown ? (peakMemoryBytes ?? 0) > 50e6 : peakMemoryBytes === null).toBe(true);
  expect(events.at(-1)?.type).toBe("run-end");
  // A round is evaluated while the next one trains.
  const indexOf = (type: RunEvent["type"], round: number) =>
    events.findIndex((event) => event.type === type && "round" in event && event.round === round);
  const order = [indexOf("round-start", 1), indexOf("round-end", 0), indexOf("round-end", 1), indexOf("round-end", 2)];
  expect(order).toEqual(order.toSorted((a, b) => a - b));
  expect(indexOf("round-start", 2)).toBeLessThan(indexOf("round-end", 1));

  const directory = path.join(runs(), "whole");
  expect(readdirSync(path.join(directory, "rounds")).toSorted()).toEqual(["0", "1", "2"]);
  expect(readdirSync(path.join(directory, "adapters")).toSorted()).toEqual(["r1", "r2", "r4", "r8"]);
  expect(readLines(directory, "metrics.jsonl")).toHaveLength(3);
  const lines = readLines(directory, "journal.jsonl");
  const [started, journal] = [lines.filter(({ type }) => type === "worker"), lines.filter(({ type }) => type !== "worker")];
  expect(started.map(({ worker_id: id }) => id)).toEqual(expect.arrayContaining(["w0", "w1"]));
  expect(new Set(started.map(({ host }) => host))).toEqual(new Set([hostname()]));
  expect(journal.map(({ type }) => type)).toEqual([
    "commit",
    ...[1, 2].flatMap(() => ["round", "fit", "fit", "fit", "fit", "close", "commit"]),
    "end",
  ]);
  expect(journal.at(-2)).toMatchObject({ type: "commit", round: 2, sha256: result.sha256 });
  const record = JSON.parse(readFileSync(path.join(directory, "run.json"), "utf8"));
  expect(record).toMatchObject({ config: { seed: 7, fit: { objective: "stratified" } }, clients: { count: 4 } });
  const clients = JSON.parse(readFileSync(path.join(directory, "clients.json"), "utf8"));
  expect(clients).toMatchObject({ ids: ["c00", "c01", "c02", "c03"], r: [8, 4, 2, 1] });
  const files = readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(directory, path.join(entry.parentPath, entry.name)));
  expect(
    files.filter((file) => !documentedFiles.some(({ pattern }) => pattern.test(file))),
    "not in src/records/README.md",
  ).toEqual([]);
  expect(workersOf(process.pid), "workers left").toEqual([]);
});

test("an aborted run ends with an InterruptedError, keeps its committed rounds and leaves no worker", async () => {
  const controller = new AbortController();
  const run = federate({ ...tinyRun(runs(), "aborted"), rounds: 50, workers: { count: 1 }, signal: controller.signal });
  const iterate = async () => {
    for await (const event of run) if (event.type === "round-end" && event.round === 1) controller.abort();
  };
  await expect(iterate()).rejects.toMatchObject({ kind: "interrupted" });
  await expect(run.result).rejects.toMatchObject({ kind: "interrupted" });
  expect(readdirSync(path.join(runs(), "aborted", "rounds"))).toContain("1");
  expect(workersOf(process.pid)).toEqual([]);
});
