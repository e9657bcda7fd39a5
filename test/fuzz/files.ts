import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { crc32 } from "node:zlib";
import { jsonValue, sample } from "fast-check";
import { decodeGlobal, encodeGlobal } from "../../src/adapter/global-file.ts";
import { createLayout } from "../../src/adapter/layout.ts";
import { validateUpdate } from "../../src/adapter/update.ts";
import { RefusedError, RunFailedError } from "../../src/errors.ts";
import { readJournal } from "../../src/records/journal.ts";
import { decodeState, encodeState } from "../../src/records/round-files.ts";
import { readRecordedFit } from "../../src/records/update-store.ts";
import { asFloat32 } from "../../src/tensor/encoded.ts";
import { encodeRaw, type RawTensor } from "../../src/tensor/safetensors.ts";
import { createRng, deriveSeed, type Rng } from "../../src/base/rng.ts";
import { goldenMessage } from "./corpus.ts";
import { type Layer, timed } from "./frames.ts";
import { mutateJson } from "./mutate-json.ts";
import { mutateBytes } from "./mutate.ts";
import { below, choose, isOdds } from "./random.ts";
import { createTally, nameOf } from "./tally.ts";

const layout = createLayout(
  { r: 2, tiers: [1, 2], scale: 2 },
  { modules: [{ name: "q", in: 4, out: 3 }], dense: [{ name: "head", shape: [3] }] },
);
const adapter = { r: 2, rows: new Float32Array(14).fill(0.5), dense: Float32Array.of(1, 2, 3) };
const merged = { rows: new Float32Array(21), ends: [0, 1, 3] };
const client = { id: "c0", r: 2, n: 10 };

const sha256 = "ab".repeat(32);
const trained = {
  coverage: [{ r: 1, clients: 1, examples: 10 }],
  fit_loss: 0.5,
  reported: ["c0"],
  failed: [],
  late: [],
  passes: 1,
  bytes_down: 1,
  bytes_up: 1,
};
const JOURNAL = [
  { type: "commit", round: 0, sha256, state_sha256: null, trained: { ...trained, fit_loss: null }, clients: [], set_aside: [] },
  { type: "round", round: 1, clients: [{ id: "c0", r: 2 }] },
  { type: "close", round: 1, reported: ["c0"], failed: [], late: [], set_aside: ["c1"] },
  { type: "commit", round: 1, sha256, state_sha256: sha256, trained, clients: [{ id: "c0", r: 2, rms_loss: 0.5 }], set_aside: ["c1"] },
  { type: "end" },
];

const ORIGIN = { round: 1, adapter: "a".repeat(64), seed: "5" };

/** The files that a run reads back: adapters, its state, recorded fits, the journal. */
export async function fileLayer(seed: number): Promise<Layer> {
  const rng = createRng(deriveSeed(seed, "files"));
  const tally = createTally();
  const folder = mkdtempSync(path.join(tmpdir(), "fuzz-"));
  const hostile = [...ODD, ...ODD, ...sample(jsonValue(), { seed, numRuns: 300 })];
  const [fitFile, journal] = [path.join(folder, "1", "c0.safetensors"), path.join(folder, "journal.jsonl")];
  mkdirSync(path.dirname(fitFile));
  const fit = recordedFit();
  const fits = [fit, fit, fit, withFewerValues(fit)];
  const globals = [encodeGlobal(layout, adapter, 3), encodeGlobal(layout, { ...adapter, merged }, 3)].map((parts) => Buffer.concat(parts));
  const state = Buffer.concat(encodeState({ momentum: adapter.rows, count: adapter.dense }) ?? []);

  const kinds: readonly (() => readonly [Uint8Array, (bytes: Uint8Array) => unknown])[] = [
    () => [mutateFile(rng, choose(rng, globals), hostile), decodeGlobal],
    () => [mutateFile(rng, choose(rng, globals), hostile), decodeGlobal],
    () => [mutateFile(rng, state, hostile), (bytes) => decodeState(bytes, "a state")],
    () => [mutateFile(rng, isOdds(rng, 0.5) ? withAnotherAnswer(rng, fit, hostile) : choose(rng, fits), hostile), readFit],
    () => [Buffer.from(mutateJournal(rng, hostile)), readMutated],
  ];

  async function readFit(bytes: Uint8Array): Promise<void> {
    writeFileSync(fitFile, bytes);
    const { reply, stored } = await readRecordedFit(folder, "c0", ORIGIN);
    const { rows, dense } = validateUpdate({ layout, client, reply: reply.message, payload: reply.payload });
    for (const [name, values] of Object.entries({ rows, dense })) {
      const read = await stored.read(name as "rows" | "dense", 0, values.length);
      if (
        !Buffer.from(read.buffer, read.byteOffset, read.byteLength).equals(Buffer.from(values.buffer, values.byteOffset, values.byteLength))
      )
        throw new Error(`${name} is read differently in parts`);
    }
  }
  async function readMutated(bytes: Uint8Array): Promise<void> {
    writeFileSync(journal, bytes);
    const { end } = await readJournal(journal);
    if (end < bytes.length) tally.refused("a journal: text after its last complete line");
  }

  return {
    tally,
    async step() {
      const [bytes, read] = choose(rng, kinds)();
      tally.input();
      try {
        await timed(tally, [bytes], async () => read(bytes));
        tally.passed();
        tally.accepted();
      } catch (error) {
        if (!(error instanceof RefusedError || error instanceof RunFailedError)) return tally.crashed(error, [bytes]);
        // The first check is that of the safetensors header.
        if (!/^the header|: expected at least 8 bytes/.test(error.message)) tally.passed();
        tally.refused(nameOf(error));
      }
    },
    close: async () => rmSync(folder, { recursive: true }),
  };
}

const ODD = [
  null,
  true,
  -1,
  0,
  1,
  2,
  3,
  7,
  0.5,
  1e308,
  2 ** 53,
  2 ** 31,
  "",
  "0",
  "__proto__",
  "constructor",
  "rows",
  "F32",
  "I8X256",
  [],
  {},
  [[]],
  "\ud800",
];

/** An update as the update store writes it. */
function recordedFit(): Uint8Array {
  const raw = new Map<string, RawTensor>([
    ["dense", { dtype: "F32", shape: [3], bytes: asFloat32(adapter.dense).bytes }],
    ["rows", { dtype: "F32", shape: [2, 7], bytes: asFloat32(adapter.rows).bytes }],
  ]);
  const tensors = [...raw].map(([name, { bytes, ...tensor }]) => ({
    name,
    ...tensor,
    bytes: bytes.length,
    crc32: crc32(bytes),
    shared: null,
  }));
  const fit = JSON.stringify({ ...goldenMessage("fitted"), client_id: "c0", r: 2, scale: 2, n: 10, tensors });
  const crc = [...raw.values()].reduce((checksum, { bytes }) => crc32(bytes, checksum), crc32(fit));
  return Buffer.concat([...encodeRaw(raw, { ...ORIGIN, round: "1", client_id: "c0", worker_id: "w0", fit, crc32: `${crc}` })]);
}

/** A safetensors file with a changed header or changed bytes. */
function mutateFile(rng: Rng, file: Uint8Array, hostile: readonly unknown[]): Uint8Array {
  if (isOdds(rng, 0.1)) return file;
  if (isOdds(rng, 0.2)) return mutateBytes(rng, file, [file]);
  const { header, data } = readFile(file);
  // Half of the time change metadata that is JSON itself: the layout, the ends of merged components.
  const metadata = header["__metadata__"] as Record<string, string> | undefined;
  const inner =
    metadata && isOdds(rng, 0.5)
      ? choose(
          rng,
          Object.keys(metadata).filter((key) => key !== "fit"),
        )
      : undefined;
  if (metadata && inner !== undefined) metadata[inner] = mutateJson(rng, parsed(metadata[inner] ?? ""), hostile);
  return writeFile(inner === undefined ? mutateJson(rng, header, hostile) : JSON.stringify(header), data);
}

/** A recorded fit with a changed answer and a matching checksum. */
function withAnotherAnswer(rng: Rng, file: Uint8Array, hostile: readonly unknown[]): Uint8Array {
  const { header, data } = readFile(file);
  const metadata = header["__metadata__"] as Record<string, string>;
  metadata["fit"] = mutateJson(rng, JSON.parse(metadata["fit"] ?? ""), hostile);
  metadata["crc32"] = `${crc32(data, crc32(metadata["fit"]))}`;
  return writeFile(JSON.stringify(header), data);
}

/** A complete fit with fewer `rows` than its answer says. */
function withFewerValues(file: Uint8Array): Uint8Array {
  const { header, data } = readFile(file);
  const metadata = header["__metadata__"] as Record<string, string>;
  const { data_offsets } = header["rows"] as { data_offsets: [number, number] };
  header["rows"] = { dtype: "F32", shape: [2, 6], data_offsets: [data_offsets[0], data_offsets[1] - 8] };
  metadata["crc32"] = `${crc32(data.subarray(0, -8), crc32(metadata["fit"] ?? ""))}`;
  return writeFile(JSON.stringify(header), data.subarray(0, -8));
}

function mutateJournal(rng: Rng, hostile: readonly unknown[]): string {
  const lines = JOURNAL.map((entry) => (isOdds(rng, 0.3) ? mutateJson(rng, entry, hostile) : JSON.stringify(entry)));
  if (isOdds(rng, 0.3)) lines.splice(below(rng, lines.length), 1 + below(rng, 2), choose(rng, lines));
  const text = lines.map((line) => `${line}\n`).join("");
  return isOdds(rng, 0.8) ? text : Buffer.from(mutateBytes(rng, Buffer.from(text), [Buffer.from(text)])).toString("latin1");
}

function readFile(file: Uint8Array): { header: Record<string, unknown>; data: Uint8Array } {
  const dataStart = 8 + Number(Buffer.from(file).readBigUInt64LE());
  return { header: JSON.parse(Buffer.from(file.subarray(8, dataStart)).toString()), data: file.subarray(dataStart) };
}

function writeFile(header: string, data: Uint8Array): Uint8Array {
  const text = Buffer.from(header.padEnd(Math.ceil(header.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Uint8Array.from(Buffer.concat([length, text, data]));
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
