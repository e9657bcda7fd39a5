import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { readJournal } from "../../../src/records/journal.ts";

let folder: string;
let file: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "prelort-journal-"));
  file = path.join(folder, "journal.jsonl");
});
afterEach(() => rmSync(folder, { recursive: true }));

const trained = { coverage: [], fit_loss: null, reported: [], failed: [], late: [], passes: 0, bytes_down: 0, bytes_up: 0 };
const commit = (round: number, digit = "a") => {
  return { type: "commit", round, sha256: digit.repeat(64), state_sha256: null, trained, clients: [], set_aside: [] };
};
const close = (round: number) => ({ type: "close", round, reported: ["c0"], failed: [], late: [], set_aside: [] });
const asked = (round: number, r: number) => ({ type: "round", round, clients: [{ id: "c0", r }] });
const write = (...entries: readonly unknown[]) => writeFileSync(file, entries.map((entry) => `${JSON.stringify(entry)}\n`).join(""));

test("an absent journal is empty", async () => {
  expect(await readJournal(file)).toEqual({ commits: [], highest: -1, asked: new Map(), closes: new Map(), hasEnded: false, end: 0 });
});

test("a round that was made again stands for itself and all after it", async () => {
  write(asked(1, 4), commit(0), commit(1), commit(2), { type: "end" }, { type: "resume" }, asked(1, 2), close(1), commit(1, "b"));
  const journal = await readJournal(file);
  expect(journal.commits.map(({ round, sha256 }) => [round, sha256[0]])).toEqual([
    [0, "a"],
    [1, "b"],
  ]);
  expect([journal.highest, journal.hasEnded]).toEqual([2, false]);
  expect(journal.asked.get(1)).toEqual([{ id: "c0", r: 2 }]);
  expect(journal.closes.get(1)?.reported).toEqual(["c0"]);
});

test("what a kill left half written at its end is no entry, and no fault", async () => {
  write(commit(0), { type: "end" });
  const whole = (await readJournal(file)).end;
  appendFileSync(file, '{"type":"commit","round":1,"sha');
  expect(await readJournal(file)).toMatchObject({ end: whole, hasEnded: true });
});

test.each<[string, string, RegExp]>([
  ["that is not JSON", '{"type":"fit",', /journal\.jsonl:2 is damaged: it is not a journal entry/],
  ["without a type", JSON.stringify({ round: 1 }), /journal\.jsonl:2 is damaged: it is not a journal entry/],
  ["with a value of another kind", JSON.stringify({ ...commit(1), round: "one" }), /journal\.jsonl:2 is damaged: round must be a number/],
  ["that is nested as deep as it goes", `{"type":"commit","round":${"[".repeat(20_000)}${"]".repeat(20_000)}}`, /jsonl:2 is damaged: /],
  ["with a hash that is none", JSON.stringify(commit(1, "x")), /jsonl:2 is damaged: sha256 must be 64 hexadecimal digits, got "x+"/],
  ["of a round that does not follow", JSON.stringify(commit(2)), /jsonl:2 is damaged: it commits round 2, and no line commits round 1/],
])("an entry %s is named by its line", async (_, line, message) => {
  write(commit(0));
  appendFileSync(file, `${line}\n${JSON.stringify({ type: "end" })}\n`);
  await expect(readJournal(file)).rejects.toThrow(message);
  await expect(readJournal(file)).rejects.toMatchObject({ kind: "run" });
});
