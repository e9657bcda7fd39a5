import { readFileSync } from "node:fs";
import * as fc from "fast-check";
import { Packr, Unpackr } from "msgpackr";
import { describe, expect, test } from "vitest";
import { RefusedError } from "../../../src/errors.ts";
import { type ClientColumns, labelCountsOf, mixOf, startsOf, type WireColumns } from "../../../src/protocol/client-columns.ts";
import { decodeClients, encodeClients } from "../../../src/protocol/codec.ts";
import { indexIds } from "../../../src/protocol/id-index.ts";

const golden = JSON.parse(readFileSync(new URL("../../fixtures/wire/expected.json", import.meta.url), "utf8")) as {
  readonly file: string;
  readonly message: { readonly data: { readonly hex: string } };
}[];
const chunk = golden.find(({ file }) => file === "chunk-of-clients.msgpack");
const table = new Uint8Array(Buffer.from(chunk?.message.data.hex ?? "", "hex"));
const unpackr = new Unpackr({ useRecords: false });
const packr = new Packr({ useRecords: false });
const numbers = (...values: number[]) => new Uint8Array(Uint32Array.from(values).buffer);

test("a table of clients is read column by column", () => {
  const columns = decodeClients(table, 2);
  expect(columns).toMatchObject({
    ids: ["c00", "c01"],
    n: Uint32Array.of(12, 3),
    nEval: Uint32Array.of(4, 0),
    nTokens: Uint32Array.of(310, 70_000),
    nTruncated: Uint32Array.of(2, 0),
  });
  expect([0, 1].map((client) => labelCountsOf(columns.labelCounts, client, 2))).toEqual([
    [5, 7],
    [0, 3],
  ]);
  expect([0, 1].map((client) => mixOf(columns, client))).toEqual([
    [
      { value: "nourriture é", n: 7 },
      { value: "animal", n: 5 },
    ],
    [{ value: "nourriture é", n: 3 }],
  ]);
  expect(["c00", "c01", "c02", ""].map(columns.indexOf)).toEqual([0, 1, -1, -1]);
});

test("columns come back as they were sent", () => {
  const whole = fc.integer({ min: 0, max: 2 ** 32 - 1 });
  const some = fc.integer({ min: 1, max: 2 ** 32 - 1 });
  const client = fc.record({
    n: some,
    figures: fc.tuple(whole, whole, whole),
    labels: fc.uniqueArray(fc.tuple(fc.nat(4), some), { selector: ([label]) => label, maxLength: 5 }),
    mix: fc.array(fc.tuple(fc.nat(2), some), { maxLength: 3 }),
  });
  const clients = fc.dictionary(fc.string({ unit: "binary" }), client, { minKeys: 1, maxKeys: 20 });
  const tallied = (pairs: readonly (readonly (readonly [number, number])[])[]) => ({
    starts: startsOf(Uint32Array.from(pairs, ({ length }) => length)),
    keys: Uint32Array.from(pairs.flat(), ([key]) => key),
    counts: Uint32Array.from(pairs.flat(), ([, count]) => count),
  });
  const cases = fc.property(clients, (drawn) => {
    const own = Object.values(drawn);
    const sent: Omit<ClientColumns, "indexOf"> = {
      ids: Object.keys(drawn),
      n: Uint32Array.from(own, ({ n }) => n),
      nEval: Uint32Array.from(own, ({ figures }) => figures[0]),
      nTokens: Uint32Array.from(own, ({ figures }) => figures[1]),
      nTruncated: Uint32Array.from(own, ({ figures }) => figures[2]),
      labelCounts: tallied(own.map(({ labels }) => labels.toSorted(([a], [b]) => a - b))),
      mix: tallied(own.map(({ mix }) => mix)),
      values: ["a", "é", ""],
    };
    const { indexOf, ...back } = decodeClients(encodeClients(sent), 5);
    expect(back).toEqual(sent);
    expect(sent.ids.map(indexOf)).toEqual([...sent.ids.keys()]);
  });
  fc.assert(cases);
});

describe("a table is refused if", () => {
  const changed = (changes: object) => {
    const sent = unpackr.unpack(table) as WireColumns;
    return packr.pack(Object.fromEntries(Object.entries({ ...sent, ...changes }).filter(([, column]) => column !== undefined)));
  };
  test.each<[string, Uint8Array, RegExp]>([
    ["it is empty", new Uint8Array(0), /\bmap\b.*nothing/],
    ["it is cut", table.subarray(0, table.length - 9), /\bbytes\b/],
    ["more follows it", Buffer.concat([table, numbers(1)]), /\bthe end\b.*\b4 more\b/],
    ["a column is missing", changed({ n: undefined }), /\bn: /],
    ["it has a column too many", changed({ size: numbers(1, 2) }), /\bsize\b/],
    ["there are no clients", changed({ ids: [] }), /\bids\b/],
    ["an id is no string", changed({ ids: ["c00", 1] }), /\bids\.1\b/],
    ["an id occurs twice", changed({ ids: ["c01", "c01"] }), /\bonce\b.*\bc01\b/],
    ["a column is a list", changed({ n: [12, 3] }), /\bn: .*\bbytes\b/],
    ["a number is cut", changed({ n: numbers(12, 3).subarray(0, 7) }), /\bn: .*\b4 bytes\b/],
    ["a column is too short", changed({ n_tokens: numbers(1) }), /\bn_tokens\b.*\b2 numbers\b.*\b1$/],
    ["a column is too long", changed({ n_eval: numbers(1, 2, 3) }), /\bn_eval\b.*\b2 numbers\b.*\b3$/],
    ["a client has no examples", changed({ n: numbers(12, 0) }), /\bn of client c01\b/],
    [
      "a client lacks its number of pairs",
      changed({ mix: { sizes: numbers(3), keys: numbers(0, 0, 0), counts: numbers(1, 1, 1) } }),
      /\bsizes of mix\b/,
    ],
    [
      "pairs are missing",
      changed({ mix: { sizes: numbers(2, 1), keys: numbers(0, 1), counts: numbers(1, 1, 1) } }),
      /\bkeys of mix\b.*\b3\b.*\b2$/,
    ],
    [
      "counts are missing",
      changed({ mix: { sizes: numbers(2, 1), keys: numbers(0, 1, 0), counts: numbers(1, 1) } }),
      /\bcounts of mix\b.*\b3\b.*\b2$/,
    ],
    ["a value is unknown", changed({ mix: { sizes: numbers(1, 0), keys: numbers(2), counts: numbers(1) } }), /\bkey of mix\b.*\b2$/],
    ["a count is 0", changed({ mix: { sizes: numbers(1, 0), keys: numbers(1), counts: numbers(0) } }), /\bcount of mix\b.*\b0$/],
    [
      "a label is unknown",
      changed({ label_counts: { sizes: numbers(1, 0), keys: numbers(2), counts: numbers(1) } }),
      /\bkey of label_counts\b/,
    ],
    [
      "a client has a label twice",
      changed({ label_counts: { sizes: numbers(0, 2), keys: numbers(1, 1), counts: numbers(1, 2) } }),
      /\bclient c01\b.*\babove 1\b/,
    ],
    ["sizes overflow", changed({ mix: { sizes: numbers(2 ** 32 - 1, 2 ** 32 - 1), keys: numbers(), counts: numbers() } }), /\b2\^32\b/],
  ])("%s", (_, content, reason) => {
    expect(() => decodeClients(content, 2)).toThrow(RefusedError);
    expect(() => decodeClients(content, 2)).toThrow(reason);
  });
});

test("200,000 ids are found in whatever order they are listed", () => {
  const ids = Array.from({ length: 200_000 }, (_, index) => `c${(index * 7919) % 200_000}`);
  const indexOf = indexIds(ids);
  expect(ids.every((id, index) => indexOf(id) === index)).toBe(true);
  expect([indexOf("c200000"), indexOf(undefined), indexOf({ id: "c1" })]).toEqual([-1, -1, -1]);
});
