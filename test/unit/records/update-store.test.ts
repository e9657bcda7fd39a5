import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { PROTOCOL_VERSION } from "../../../src/protocol/limits.ts";
import type { WorkerMessageOf } from "../../../src/protocol/messages.ts";
import type { ArrivedSum } from "../../../src/records/sum-file.ts";
import { createUpdateStore, readRecordedFit } from "../../../src/records/update-store.ts";
import { asFloat32, type Dtype, type Encoded, encodedBytes } from "../../../src/tensor/encoded.ts";
import type { Reply } from "../../../src/workers/task.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "prelort-spool-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const store = (options: { isRecorded?: boolean; maxBytes?: number } = {}) =>
  createUpdateStore({ folder, isRecorded: options.isRecorded ?? false, isRead: false, maxBytes: options.maxBytes ?? 1e9 });

function fitOf(clientId: string, rows: Encoded, dense = asFloat32(Float32Array.of(7, 8))): Reply<"fit"> {
  const describe = (name: "rows" | "dense", { dtype, length, bytes }: Encoded) => {
    return { name, dtype, shape: [length], bytes: bytes.length, crc32: null, shared: { pid: null, fd: 3, offset: 64 } };
  };
  const message: WorkerMessageOf<"fitted"> = {
    type: "fitted",
    protocol_version: PROTOCOL_VERSION,
    task_id: `round-1/fit/${clientId}`,
    attempt: 2,
    client_id: clientId,
    r: 2,
    scale: 2,
    n: 10,
    steps: 3,
    passes: 3,
    loss: 0.1 + 0.2,
    rms_loss: null,
    grad_norm: 2.5,
    norm: null,
    seconds: 1.5,
    peak_memory_bytes: null,
    tensors: [describe("rows", rows), describe("dense", dense)],
  };
  return { workerId: "w0", attempt: 2, message, payload: { rows, dense }, close: () => {} };
}

const adapter = "a".repeat(64);
const seeded = (id: string, seed = "5") => ({ id, seed });

const values = (length: number) => Float32Array.from({ length }, (_, index) => Math.sin(index));
const small = () => asFloat32(values(6));

async function restored(clientId: string, round = 1): Promise<Reply<"fit"> | undefined> {
  const open = await store().open(round, adapter);
  return open.restore(seeded(clientId), async () => {});
}

describe("the finished updates of an interrupted round", () => {
  test.each([
    ["few values", 6],
    ["many values", 100_000],
  ])("are restored with message and tensors of %s", async (_, length) => {
    const fit = fitOf("c/../x", asFloat32(values(length)));
    await (await store().open(1, adapter)).keep(seeded("c/../x"), fit);
    const found = await restored("c/../x");
    expect(found?.message).toEqual(fit.message);
    expect([found?.workerId, found?.attempt]).toEqual(["w0", 2]);
    expect(Buffer.from(found?.payload.rows?.bytes ?? [])).toEqual(Buffer.from(fit.payload.rows?.bytes ?? []));
    expect(Buffer.from(found?.payload.dense?.bytes ?? [])).toEqual(Buffer.from(fit.payload.dense?.bytes ?? []));
  });

  test("are not restored for another round or client", async () => {
    await (await store().open(1, adapter)).keep(seeded("c0"), fitOf("c0", small()));
    expect(await restored("c0", 2)).toBeUndefined();
    expect(await restored("c1")).toBeUndefined();
  });

  test("are overwritten by the next round, but not before they have been restored", async () => {
    const first = await store().open(1, adapter);
    await first.keep(seeded("c0"), fitOf("c0", small()));
    await first.keep(seeded("c1"), fitOf("c1", asFloat32(values(50))));
    const again = await store().open(1, adapter);
    await again.keep(seeded("c2"), fitOf("c2", small()));
    expect((await again.restore(seeded("c1"), async () => {}))?.message.client_id).toBe("c1");
    expect((await again.restore(seeded("c0"), async () => {}))?.message.client_id).toBe("c0");
    expect(readdirSync(folder)).toHaveLength(3);
    const next = await store().open(2, adapter);
    for (const client of ["c3", "c4", "c5"]) await next.keep(seeded(client), fitOf(client, small()));
    expect(readdirSync(folder)).toHaveLength(3);
    for (const client of ["c0", "c1", "c2"]) expect(await restored(client)).toBeUndefined();
    expect((await restored("c4", 2))?.message.client_id).toBe("c4");
  });

  test.each<[string, (file: string) => void]>([
    ["is truncated", (file) => truncateSync(file, 700)],
    ["is empty", (file) => truncateSync(file, 0)],
    ["holds only zeros", (file) => writeFileSync(file, Buffer.alloc(800))],
    ["has a changed value", (file) => flip(file, -3)],
    ["has a changed answer", (file) => writeFileSync(file, readFileSync(file, "latin1").replace("0.300000", "0.300001"), "latin1")],
  ])("are not restored if their file %s, and the file is removed", async (_, damage) => {
    await (await store().open(1, adapter)).keep(seeded("c0"), fitOf("c0", small()));
    const file = path.join(folder, "0.safetensors");
    damage(file);
    expect(await restored("c0")).toBeUndefined();
    const { message } = fitOf("c0", small());
    await (await store().open(1, adapter)).keep(seeded("c0"), fitOf("c0", small()));
    expect((await restored("c0"))?.message).toEqual(message);
  });

  test("are removed and count as not found if they are refused", async () => {
    await (await store().open(1, adapter)).keep(seeded("c0"), fitOf("c0", small()));
    const open = await store().open(1, adapter);
    const { RefusedError } = await import("../../../src/errors.ts");
    const refused = open.restore(seeded("c0"), () => Promise.reject(new RefusedError("an update", "less", "more")));
    expect(await refused).toBeUndefined();
    expect(readdirSync(folder)).toEqual([]);
  });
});

test.each([
  ["another adapter", "b".repeat(64), "5"],
  ["another seed", adapter, "6"],
])("an update that was trained from %s is not used, whether recorded or not", async (_, from, seed) => {
  const recorded = store({ isRecorded: true });
  await (await recorded.open(1, adapter)).keep(seeded("c0"), fitOf("c0", small()));
  const expected = expect.stringContaining(from === adapter ? `seed ${seed}` : `adapter ${from}`);
  await expect(readRecordedFit(folder, "c0", { round: 1, adapter: from, seed })).rejects.toMatchObject({ kind: "refused", expected });
  const open = await recorded.open(1, from);
  expect(await open.restore(seeded("c0", seed), async () => {})).toBeUndefined();
  await open.keep(seeded("c0", seed), fitOf("c0", small()));
  expect((await (await recorded.open(1, from)).restore(seeded("c0", seed), async () => {}))?.message.client_id).toBe("c0");
});

test.each([false, true])("an unreadable update is an error and does not count as absent (recorded: %s)", async (isRecorded) => {
  const round = isRecorded ? path.join(folder, "1") : folder;
  mkdirSync(path.join(round, "0.safetensors"), { recursive: true });
  await expect(store({ isRecorded }).open(1, adapter)).rejects.toThrow(/0\.safetensors\b.*\bEISDIR\b/);
});

test("an update that takes less time to train than to write is kept only if updates are recorded", async () => {
  const large = fitOf("c0", asFloat32(values(100_000)));
  const quick = { ...large, message: { ...large.message, seconds: 0.001 } };
  expect(await (await store().open(1, adapter)).keep(seeded("c0"), quick)).toBeUndefined();
  expect(await (await store({ isRecorded: true }).open(1, adapter)).keep(seeded("c0"), quick)).toBeDefined();
});

test("updates are kept only up to the maximum number of bytes", async () => {
  const open = await store({ maxBytes: 1500 }).open(1, adapter);
  expect(await open.keep(seeded("c0"), fitOf("c0", small()))).toBeDefined();
  expect(await open.keep(seeded("c1"), fitOf("c1", asFloat32(values(1000))))).toBeUndefined();
  expect(readdirSync(folder)).toEqual(["0.safetensors"]);
});

test.each<[Dtype, number]>([
  ["F32", 1000],
  ["BF16", 1000],
  ["F16", 999],
  ["I8X256", 1000],
])("any range of a stored update's %s values can be read back", async (dtype, length) => {
  const bytes = Uint8Array.from({ length: encodedBytes(dtype, length) }, (_, index) => (index * 37) % 61);
  const rows = { dtype, length, bytes };
  const stored = await (await store().open(1, adapter)).keep(seeded("c0"), fitOf("c0", rows));
  const { decode } = await import("../../../src/tensor/encoded.ts");
  const all = decode(rows);
  for (const [from, to] of [
    [0, length],
    [0, 1],
    [255, 257],
    [300, 301],
    [512, 999],
  ] as const) {
    expect(await stored?.read("rows", from, to)).toEqual(all.slice(from, to));
  }
  expect(await stored?.read("dense", 0, 2)).toEqual(Float32Array.of(7, 8));
});

test("an update kept before a run was set to record updates is recorded after a resume with recording", async () => {
  await (await store().open(1, adapter)).keep(seeded("c0"), fitOf("c0", small()));
  const recorded = store({ isRecorded: true });
  expect((await (await recorded.open(1, adapter)).restore(seeded("c0"), async () => {}))?.message.client_id).toBe("c0");
  await recorded.clear();
  expect((await readRecordedFit(folder, "c0", { round: 1, adapter, seed: "5" })).reply.message.client_id).toBe("c0");
});

test("recorded updates are kept by round and client, and all others are removed", async () => {
  const recorded = store({ isRecorded: true });
  await (await store().open(1, adapter)).keep(seeded("c9"), fitOf("c9", small()));
  await (await recorded.open(1, adapter)).keep(seeded("c 0"), fitOf("c 0", small()));
  await (await recorded.open(2, adapter)).keep(seeded(".."), fitOf("..", small()));
  await recorded.clear();
  expect(new Set(readdirSync(folder, { recursive: true, encoding: "utf8" }))).toEqual(
    new Set(["1", "1/c%200.safetensors", "2", "2/%2E%2E.safetensors"]),
  );
  expect((await readRecordedFit(folder, "..", { round: 2, adapter, seed: "5" })).reply.message.client_id).toBe("..");
  await expect(readRecordedFit(folder, "c1", { round: 1, adapter, seed: "5" })).rejects.toMatchObject({ kind: "refused" });
  await store().clear();
  expect(existsSync(folder)).toBe(false);
});

function flip(file: string, at: number): void {
  const content = readFileSync(file);
  content[content.length + at] = (content.at(at) ?? 0) ^ 4;
  writeFileSync(file, content);
}

test("new updates of a round are kept next to any number found on disk", async () => {
  const before = await store().open(1, adapter);
  for (let index = 0; index < 20_000; index++) await before.keep(seeded(`c${index}`), fitOf(`c${index}`, small()));
  const open = await store().open(1, adapter);
  await open.keep(seeded("new"), fitOf("new", small()));
  expect(existsSync(path.join(folder, "20000.safetensors"))).toBe(true);
});

test("updates of clients with ids longer than a file name may be are each recorded in their own file", async () => {
  const ids = ["é".repeat(100), `${"é".repeat(99)}a`];
  const open = await store({ isRecorded: true }).open(1, adapter);
  for (const [index, id] of ids.entries()) await open.keep(seeded(id), fitOf(id, asFloat32(values(index + 2))));
  for (const [index, id] of ids.entries()) {
    const { reply } = await readRecordedFit(folder, id, { round: 1, adapter, seed: "5" });
    expect(reply.payload.rows?.length).toBe(index + 2);
  }
});

describe("the partial sums of an interrupted round", () => {
  const sumOf = (clientId: string, byte: number): ArrivedSum => {
    const bytes = new Uint8Array(5).fill(byte);
    return { workerId: "w0", fits: [fitOf(clientId, small()).message], payload: { rows: { dtype: "I40", length: 1, bytes } } };
  };
  const found = async (round: number, resolution = 4) => {
    const sums: ArrivedSum[] = [];
    const opened = await store().open(round, adapter);
    await opened.restoreSums(resolution, async (sum) => void sums.push(sum));
    return sums;
  };
  const sumFiles = () => readdirSync(folder).filter((name) => name.startsWith("sum-"));

  test("are restored as they arrived", async () => {
    const opened = await store().open(1, adapter);
    for (const [index, client] of ["a", "b"].entries()) await opened.keepSum(4, sumOf(client, index));
    expect(await found(1)).toEqual([sumOf("a", 0), sumOf("b", 1)]);
  });

  test("are removed, and do not count, with another resolution, or damaged", async () => {
    const opened = await store().open(1, adapter);
    await opened.keepSum(4, sumOf("a", 0));
    expect(await found(1, 8)).toEqual([]);
    expect(sumFiles()).toEqual([]);
    await opened.keepSum(4, sumOf("b", 0));
    const [name = ""] = sumFiles();
    const bytes = readFileSync(path.join(folder, name));
    bytes[bytes.length - 1] = 1 ^ (bytes.at(-1) ?? 0);
    writeFileSync(path.join(folder, name), bytes);
    expect(await found(1)).toEqual([]);
    expect(sumFiles()).toEqual([]);
  });

  test("are neither read nor removed by the next round, which overwrites them", async () => {
    const first = await store().open(1, adapter);
    for (const client of ["a", "b"]) await first.keepSum(4, sumOf(client, 0));
    const files = sumFiles();
    const second = await store().open(2, adapter);
    await second.restoreSums(4, () => expect.unreachable());
    expect(sumFiles()).toEqual(files);
    for (const client of ["c", "d"]) await second.keepSum(4, sumOf(client, 0));
    expect(sumFiles()).toEqual(files);
    expect((await found(2)).map(({ fits }) => fits[0]?.client_id)).toEqual(["c", "d"]);
  });
});
