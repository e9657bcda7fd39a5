import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { RefusedError } from "../../../src/errors.ts";
import { readState, readStateRank, removeOtherStates, stateFile, writeState } from "../../../src/records/client-state-file.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "prelort-states-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const ORIGIN = { clientId: "c/1", round: 3, adapter: "ab".repeat(32), seed: "5".repeat(32) };
const STATE = new Uint8Array(Float32Array.of(3, 0.5, -0.25, 1e-9).buffer);
const fileOf = (origin = ORIGIN) => path.join(folder, stateFile(origin));

test("a state is read back as it was written, with the rank of its fit, into memory that nothing else shares", async () => {
  await writeState(folder, ORIGIN, { r: 4, state: new Uint8Array(16) });
  await writeState(folder, ORIGIN, { r: 4, state: STATE });
  const read = await readState(folder, ORIGIN);
  expect(read).toEqual(STATE);
  expect(read.buffer.byteLength).toBeLessThan(1000);
  expect(readStateRank(folder, ORIGIN)).toBe(4);
  expect(existsSync(`${fileOf()}.partial`)).toBe(false);
});

test.each<[string, (file: string) => void, { readonly inHeader: boolean }]>([
  ["missing", (file) => rmSync(file), { inHeader: true }],
  ["empty", (file) => truncateSync(file), { inHeader: true }],
  ["cut short", (file) => truncateSync(file, readFileSync(file).length - 4), { inHeader: true }],
  ["overwritten", (file) => writeFileSync(file, "something else that is long enough"), { inHeader: true }],
  ["of other values", (file) => writeFileSync(file, readFileSync(file).fill(1, readFileSync(file).length - 4)), { inHeader: false }],
])("a file that is %s is refused by name", async (_, damage, { inHeader }) => {
  await writeState(folder, ORIGIN, { r: 4, state: STATE });
  damage(fileOf());
  const refused: unknown = await readState(folder, ORIGIN).catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(RefusedError);
  expect((refused as Error).message).toContain(fileOf());
  if (inHeader) expect(() => readStateRank(folder, ORIGIN)).toThrow(RefusedError);
});

test.each([
  ["another client", { clientId: "c/2" }],
  ["another round", { round: 2 }],
  ["another adapter", { adapter: "cd".repeat(32) }],
  ["another seed", { seed: "6".repeat(32) }],
])("a state of %s is not taken for a client's own", async (_, other) => {
  await writeState(folder, { ...ORIGIN, ...other }, { r: 4, state: STATE });
  const written = readFileSync(fileOf({ ...ORIGIN, ...other }));
  await writeState(folder, ORIGIN, { r: 4, state: STATE });
  writeFileSync(fileOf(), written);
  await expect(readState(folder, ORIGIN)).rejects.toThrow(RefusedError);
  expect(() => readStateRank(folder, ORIGIN)).toThrow(RefusedError);
});

test("all states but those that are kept are removed, with the folders that are empty then", async () => {
  await removeOtherStates(path.join(folder, "none"), new Set());
  const origins = [1, 2, 3].flatMap((round) => ["c0", "c1"].map((clientId) => ({ ...ORIGIN, round, clientId })));
  for (const origin of origins) await writeState(folder, origin, { r: 1, state: STATE });
  const kept = [origins[0]!, origins[4]!];
  // As a file manager leaves one.
  writeFileSync(path.join(folder, ".DS_Store"), "");
  await removeOtherStates(folder, new Set(kept.map(stateFile)));
  expect(existsSync(path.join(folder, ".DS_Store"))).toBe(true);
  expect(origins.filter((origin) => existsSync(fileOf(origin)))).toEqual(kept);
  expect(existsSync(path.join(folder, "2"))).toBe(false);
});
