import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { createRunDirectory } from "../../../src/records/run-directory.ts";
import { encodeClientTable, type RecordedClients } from "../../../src/records/client-table.ts";
import { readClients, readRecord } from "../../../src/records/run-record.ts";

const clients: RecordedClients = {
  ids: ["c0", 'c"1'],
  n: Uint32Array.of(5, 3),
  r: Uint32Array.of(2, 1),
  tokens: Uint32Array.of(40, 30),
  labelCounts: { starts: Uint32Array.of(0, 2, 3), keys: Uint32Array.of(0, 1, 1), counts: Uint32Array.of(4, 1, 3) },
  mix: { starts: Uint32Array.of(0, 2, 3), keys: Uint32Array.of(1, 0, 0), counts: Uint32Array.of(4, 1, 3) },
  values: ["y", "é"],
};
const labels = ["x", "y"];

/** Columns and their order must not change: run directories on users' disks have them, and their hash. */
const WRITTEN = `{
"ids": ["c0","c\\"1"],
"n": [5,3],
"r": [2,1],
"tokens": [40,30],
"label_counts": {"sizes": [2,1], "keys": [0,1,1], "counts": [4,1,3]},
"values": ["y","é"],
"mix": {"sizes": [2,1], "keys": [1,0,0], "counts": [4,1,3]}
}
`;
const SUMMARY = { count: 2, sha256: "b5df64912f398c980b002dcdaf629149c0b428a39169ac97a316d474f43d8195" };

/** The same clients as versions before protocol 9 listed them in run.json. */
const LISTED = [
  { id: "c0", n: 5, r: 2, label_counts: [4, 1], mix: [{ value: "é", n: 4 }, { value: "y", n: 1 }], tokens: 40 },
  { id: 'c"1', n: 3, r: 1, label_counts: [0, 3], mix: [{ value: "y", n: 3 }], tokens: 30 },
]; // prettier-ignore

function temporary(): string {
  const folder = mkdtempSync(path.join(tmpdir(), "prelort-clients-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** A run's folder with this clients.json and run.json. */
function folderWith(table: string | undefined, record: object): string {
  const folder = temporary();
  if (table !== undefined) writeFileSync(path.join(folder, "clients.json"), table);
  writeFileSync(path.join(folder, "run.json"), JSON.stringify(record));
  return folder;
}

test("clients.json has a line for each column, and is read back as it was written", async () => {
  const { parts, summary } = encodeClientTable(clients);
  expect(summary).toEqual(SUMMARY);
  const directory = await createRunDirectory({ runsDir: temporary(), name: "a" });
  await directory.writeClients(parts);
  await directory.writeRecord({ clients: summary });
  await directory.close();
  expect(readFileSync(path.join(directory.path, "clients.json"), "utf8")).toBe(WRITTEN);
  expect(await readClients(directory.path, { clients: summary, labels })).toEqual(clients);
});

test("the hash of the clients covers everything but the values that they train on", () => {
  const hashOf = (changes: Partial<RecordedClients>) => encodeClientTable({ ...clients, ...changes }).summary.sha256;
  expect(hashOf({ values: ["a", "b"], mix: { ...clients.mix, counts: Uint32Array.of(3, 2, 3) } })).toBe(SUMMARY.sha256);
  const others: Partial<RecordedClients>[] = [
    { ids: ["c0", "c1"] },
    { n: Uint32Array.of(5, 4) },
    { r: Uint32Array.of(2, 2) },
    { tokens: Uint32Array.of(40, 31) },
    { labelCounts: { ...clients.labelCounts, counts: Uint32Array.of(3, 2, 3) } },
  ];
  expect(new Set([SUMMARY.sha256, ...others.map(hashOf)]).size).toBe(6);
});

test("a run that lists its clients in run.json is read as if it had been written today", async () => {
  const record = { name: "a", model: {}, index: { path: "/i", sha256: "ab" }, clients: LISTED };
  const folder = folderWith(undefined, record);
  // The prepared data had another format then, so its hash says nothing.
  expect(await readRecord(folder)).toEqual({ name: "a", model: {}, clients: SUMMARY });
  // Its values are numbered in the order in which they occur.
  const mix = { ...clients.mix, keys: Uint32Array.of(0, 1, 1) };
  expect(await readClients(folder, { clients: SUMMARY, labels })).toEqual({ ...clients, values: ["é", "y"], mix });
});

test.each<[string, string | undefined, RegExp]>([
  ["missing", undefined, /clients\.json is missing\b/],
  ["no JSON", WRITTEN.slice(0, 50), /clients\.json is damaged\b/],
  ["without a column", WRITTEN.replace('"r": [2,1],\n', ""), /damaged: r\b/],
  ["with a number below 0", WRITTEN.replace("[5,3]", "[5,-3]"), /damaged: n\[1\] .*\bwhole numbers\b/],
  ["with a column that is too long", WRITTEN.replace("[40,30]", "[40,30,20]"), /damaged: column tokens\b.*\b2 numbers\b.*\b3\b/],
  [
    "with a label that does not exist",
    WRITTEN.replace('"keys": [0,1,1]', '"keys": [0,2,1]'),
    /damaged: a key of label_counts\b.*\bbelow 2\b/,
  ],
  ["with more pairs than memory", WRITTEN.replace('"sizes": [2,1]', '"sizes": [4294967295,4294967295]'), /damaged: .*2\^32/],
  ["of other clients", WRITTEN.replace("[5,3]", "[5,4]"), /damaged: .*SHA-256 [0-9a-f]{64}, and run\.json expects b5df6491/],
])("a table of clients that is %s is refused with the reason", async (_, table, reason) => {
  const folder = folderWith(table, { clients: SUMMARY });
  await expect(readClients(folder, { clients: SUMMARY, labels })).rejects.toMatchObject({
    kind: "config",
    message: expect.stringMatching(reason),
  });
});

test("a table of 200,000 clients is written and read", async () => {
  const count = 200_000;
  const ones = new Uint32Array(count).fill(1);
  const one = { starts: Uint32Array.from({ length: count + 1 }, (_, index) => index), keys: new Uint32Array(count), counts: ones };
  const many = {
    ids: Array.from(ones, (_, index) => `c${index}`),
    n: ones,
    r: ones,
    tokens: ones,
    labelCounts: one,
    mix: one,
    values: ["x"],
  };
  const { parts, summary } = encodeClientTable(many);
  const folder = folderWith(Buffer.concat(parts).toString(), {});
  const back = await readClients(folder, { clients: summary, labels: ["x"] });
  expect(Buffer.concat(encodeClientTable(back).parts).equals(Buffer.concat(parts))).toBe(true);
});
