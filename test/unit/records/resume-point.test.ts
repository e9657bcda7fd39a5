import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createRunDirectory, reopenRunDirectory, type ReopenedDirectory } from "../../../src/records/run-directory.ts";
import type { WrittenRecord } from "../../../src/records/run-record.ts";
import { unevaluated } from "./figures.ts";

let runsDir: string;
let root: string;
beforeEach(() => {
  runsDir = mkdtempSync(path.join(tmpdir(), "prelort-past-"));
  root = path.join(runsDir, "a");
});
afterEach(() => rmSync(runsDir, { recursive: true }));

const ROUNDS = 4;
const at = (...parts: string[]) => path.join(root, ...parts);
const trainedIn = (round: number) => {
  return { coverage: [], fitLoss: round / 8, reported: ["c0"], failed: [], late: [], passes: round, bytesDown: 1, bytesUp: 2 };
};
const metricsOf = (round: number) => unevaluated(round, trainedIn(round));

interface RunOptions {
  readonly measured?: number;
  readonly hasEnded?: boolean;
  readonly record?: WrittenRecord;
}

/** A run of rounds 0 to ROUNDS, the first `measured` of them with metrics. */
async function makeRun({ measured = ROUNDS + 1, hasEnded = false, record = { name: "a" } }: RunOptions = {}): Promise<void> {
  const directory = await createRunDirectory({ runsDir, name: "a" });
  await directory.writeRecord(record);
  for (let round = 0; round <= ROUNDS; round++) {
    const global = [new TextEncoder().encode(`weights ${round}`)];
    const state = { momentum: Float32Array.of(round) };
    await directory.commitRound({ round, global, state, trained: trainedIn(round), clients: [], setAside: [] });
    if (round < measured) await directory.writeMetrics(metricsOf(round));
  }
  directory.timings.append({ round: 0, phase: "start workers", seconds: 1 });
  directory.events.append({ version: 1, number: 3, at: 5, type: "phase-start" });
  if (hasEnded) directory.journal.append({ type: "end" });
  await directory.close();
}

/** Every file below the run's folder, with its bytes. */
function snapshot(): Record<string, string> {
  const files = readdirSync(root, { recursive: true, encoding: "utf8" }).filter((name) => lstatSync(at(name)).isFile());
  return Object.fromEntries(files.toSorted().map((name) => [name, readFileSync(at(name), "latin1")]));
}

async function reopened<T>(use: (past: ReopenedDirectory) => T | Promise<T>): Promise<T> {
  const directory = await reopenRunDirectory(root);
  try {
    return await use(directory);
  } finally {
    await directory.close();
  }
}

function flip(file: string): void {
  const bytes = readFileSync(at(file));
  bytes[bytes.length - 1]! ^= 1;
  writeFileSync(at(file), bytes);
}

const editLine = (file: string, number: number, edit: (line: string) => string) => {
  const lines = readFileSync(at(file), "utf8").split("\n");
  writeFileSync(at(file), lines.map((line, index) => (index === number - 1 ? edit(line) : line)).join("\n"));
};

describe("an ended run is refused rather than shortened, and its folder does not change,", () => {
  test.each<[string, RegExp, () => void]>([
    ["without rounds/", /rounds\/4\/global\.safetensors\b.*\bmissing\b.*\b\w{64}\b/, () => rmSync(at("rounds"), { recursive: true })],
    [
      "with a flipped byte in its last adapter",
      /4\/global\.safetensors\b.*\b\w{64}\b.*\b\w{64}\b/,
      () => flip("rounds/4/global.safetensors"),
    ],
    [
      "with a flipped byte in its server's state",
      /4\/server-state\.safetensors\b.*\b\w{64}\b.*\b\w{64}\b/,
      () => flip("rounds/4/server-state.safetensors"),
    ],
  ])("%s", async (_, message, damage) => {
    await makeRun({ hasEnded: true });
    damage();
    const before = snapshot();
    await expect(reopenRunDirectory(root)).rejects.toThrow(message);
    await expect(reopenRunDirectory(root)).rejects.toThrow(/\bround 4\b/);
    await expect(reopenRunDirectory(root)).rejects.toMatchObject({ kind: "run" });
    expect(snapshot()).toEqual(before);
  });
});

describe("an unreadable file is an error, and the folder does not change:", () => {
  const inPlaceOf = (file: string, put: (file: string) => void) => () => {
    renameSync(at(file), path.join(runsDir, "moved"));
    put(at(file));
  };
  const folder = (file: string) => mkdirSync(file);
  const loop = (file: string) => symlinkSync(path.basename(file), file);
  const broken = (file: string) => symlinkSync("/proc/self/mem", file);
  const files = [
    "run.json",
    "journal.jsonl",
    "metrics.jsonl",
    "timings.jsonl",
    "events.jsonl",
    "rounds/4/global.safetensors",
    "rounds/4/server-state.safetensors",
  ];
  test.each(
    files.flatMap((file): [string, string, () => void][] => [
      [file, "EISDIR", inPlaceOf(file, folder)],
      [file, "ELOOP", inPlaceOf(file, loop)],
      ...(process.platform === "linux" && file !== "run.json"
        ? [[file, "EIO", inPlaceOf(file, broken)] as [string, string, () => void]]
        : []),
    ]),
  )("%s, %s", async (file, code, damage) => {
    await makeRun();
    damage();
    const before = snapshot();
    await expect(reopenRunDirectory(root)).rejects.toMatchObject({
      kind: "environment",
      message: expect.stringMatching(new RegExp(`${file}\\b.*\\b${code}\\b`)),
    });
    expect(snapshot()).toEqual(before);
  });
});

describe("records that contradict each other are refused, and the folder does not change:", () => {
  test.each<[string, RegExp, () => void]>([
    ["a missing journal", /journal\.jsonl\b.*\bround 4\b/, () => rmSync(at("journal.jsonl"))],
    [
      "a journal without its last lines",
      /journal\.jsonl\b.*\b1\b.*\bround 4\b/,
      () => truncateSync(at("journal.jsonl"), endOfLine("journal.jsonl", 2)),
    ],
    [
      "a journal without its last commit, of a round that has metrics",
      /journal\.jsonl\b.*\b3\b.*\bround 4\b/,
      () => truncateSync(at("journal.jsonl"), endOfLine("journal.jsonl", ROUNDS)),
    ],
    ["a damaged line in the journal", /journal\.jsonl:3\b/, () => editLine("journal.jsonl", 3, (line) => line.slice(1))],
    ["a commit missing from the journal", /journal\.jsonl:3\b.*\bround 3\b.*\bround 2\b/, () => deleteLine("journal.jsonl", 3)],
    ["no readable round", /\b5 committed rounds\b.*rounds\/4\/global\.safetensors\b/, () => rmSync(at("rounds"), { recursive: true })],
    ["a damaged run.json", /run\.json\b/, () => truncateSync(at("run.json"), 5)],
  ])("%s", async (_, message, damage) => {
    await makeRun();
    damage();
    const before = snapshot();
    await expect(reopenRunDirectory(root)).rejects.toThrow(message);
    expect(snapshot()).toEqual(before);
  });

  const deleteLine = (file: string, number: number) => {
    writeFileSync(
      at(file),
      readFileSync(at(file), "utf8")
        .split("\n")
        .filter((__, index) => index !== number - 1)
        .join("\n"),
    );
  };
  const endOfLine = (file: string, lines: number) => readFileSync(at(file), "utf8").split("\n").slice(0, lines).join("\n").length + 1;
});

test("a run.json from before the data was ready is refused next to committed rounds, and the folder does not change", async () => {
  await makeRun({ record: { name: "a", config: { rounds: 4 } } });
  const before = snapshot();
  await expect(reopenRunDirectory(root)).rejects.toMatchObject({
    kind: "run",
    message: expect.stringMatching(/run\.json\b.*--overwrite\b/s),
  });
  expect(snapshot()).toEqual(before);
});

test("an interrupted run continues from the last undamaged round and reports what is damaged", async () => {
  await makeRun();
  flip("rounds/4/global.safetensors");
  rmSync(at("rounds/3"), { recursive: true });
  const before = snapshot();
  await reopened(({ commits, metrics, remarks }) => {
    expect(commits.map(({ round }) => round)).toEqual([0, 1, 2]);
    expect(metrics.map(({ round }) => round)).toEqual([0, 1, 2]);
    expect(remarks).toEqual([
      expect.stringMatching(/^rounds\/4\/global\.safetensors\b.*\bdamaged\b.*\bround 2\b/),
      expect.stringMatching(/^rounds\/3\/global\.safetensors\b.*\bmissing\b.*\bround 2\b/),
    ]);
  });
  expect(snapshot()).toEqual(before);
  // Once a round is trained again, its line replaces those of later rounds.
  await reopened((directory) => directory.writeMetrics(metricsOf(3)));
  expect(snapshot()["metrics.jsonl"]).toBe(before["metrics.jsonl"]!.split("\n").slice(0, 4).join("\n") + "\n");
});

test("the first write after a resume truncates incomplete last lines; opening the directory does not", async () => {
  await makeRun({ measured: ROUNDS });
  const torn = { "journal.jsonl": '{"type":"commit"', "metrics.jsonl": '{"round":4,"by', "timings.jsonl": '{"ro', "events.jsonl": '{"ver' };
  const whole = snapshot();
  for (const [file, text] of Object.entries(torn)) writeFileSync(at(file), whole[file] + text);
  const before = snapshot();
  await reopened(({ commits, metrics, remarks, lastEvent }) => {
    expect([commits.length, metrics.length, remarks, lastEvent]).toEqual([5, 4, [], 3]);
  });
  expect(snapshot()).toEqual(before);
  await reopened(async (directory) => {
    directory.journal.append({ type: "resume", after: 4, differences: [] });
    directory.timings.append({ round: 4, phase: "evaluate", seconds: 2 });
    directory.events.append({ version: 1, number: 4, at: 6, type: "run-end" });
    await directory.writeMetrics(metricsOf(4));
  });
  const after = snapshot();
  expect(after["journal.jsonl"]).toBe(`${whole["journal.jsonl"]}{"type":"resume","after":4,"differences":[]}\n`);
  expect(after["timings.jsonl"]).toBe(`${whole["timings.jsonl"]}{"round":4,"phase":"evaluate","seconds":2}\n`);
  expect(after["events.jsonl"]).toBe(`${whole["events.jsonl"]}{"version":1,"number":4,"at":6,"type":"run-end"}\n`);
  expect(after["metrics.jsonl"]?.startsWith(whole["metrics.jsonl"]!)).toBe(true);
  expect(after["metrics.jsonl"]?.split("\n")).toHaveLength(6);
});

describe("a round with a wrong line in metrics.jsonl", () => {
  const damages: readonly (readonly [string, (line: string) => string, RegExp])[] = [
    ["is not JSON", (line) => line.slice(1), /^metrics\.jsonl:3\b.*\bJSON\b/],
    ["has a misspelt key", (line) => line.replace('"passes"', '"pasess"'), /^metrics\.jsonl:3\b.*\bpasses\b/],
    ["belongs to another round", (line) => line.replace('"round":2', '"round":3'), /^metrics\.jsonl:3\b.*\bround 3\b/],
  ];
  test.each(damages)("is evaluated again if the line %s, and all other lines are kept", async (_, edit, remark) => {
    await makeRun({ hasEnded: true });
    const whole = snapshot()["metrics.jsonl"];
    editLine("metrics.jsonl", 3, edit);
    const before = snapshot();
    await reopened(({ unmeasured, metrics, remarks }) => {
      expect(unmeasured).toEqual([2]);
      expect(metrics.map(({ round }) => round)).toEqual([0, 1, 3, 4]);
      expect(remarks).toEqual([expect.stringMatching(remark), expect.stringMatching(/^metrics\.jsonl\b.*\bround 2\b/)]);
    });
    expect(snapshot()).toEqual(before);
    await reopened((directory) => directory.writeMetrics(metricsOf(2)));
    expect(snapshot()["metrics.jsonl"]).toBe(whole);
  });

  test("is reported, but not evaluated again, if its adapter is missing, too", async () => {
    await makeRun({ hasEnded: true });
    editLine("metrics.jsonl", 3, () => "");
    rmSync(at("rounds/2"), { recursive: true });
    await reopened(({ unmeasured, remarks }) => {
      expect(unmeasured).toEqual([]);
      expect(remarks.at(-1)).toMatch(/^metrics\.jsonl\b.*\bround 2\b.*rounds\/2\/global\.safetensors\b.*\bmissing\b/);
    });
  });
});

test("a run's log is never written through a link", async () => {
  await makeRun();
  const outside = path.join(runsDir, "outside");
  renameSync(at("journal.jsonl"), outside);
  symlinkSync(outside, at("journal.jsonl"));
  const before = readFileSync(outside, "utf8");
  const directory = await reopenRunDirectory(root);
  directory.journal.append({ type: "resume", after: 4, differences: [] });
  await expect(directory.journal.flush()).rejects.toThrow(/journal\.jsonl\b.*\bELOOP\b/);
  await directory.close().catch(() => undefined);
  expect(readFileSync(outside, "utf8")).toBe(before);
});
