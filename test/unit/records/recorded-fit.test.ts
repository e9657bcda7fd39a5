import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { crc32 } from "node:zlib";
import { expect, onTestFinished, test } from "vitest";
import { readRecordedFit } from "../../../src/records/update-store.ts";
import { encodeRaw } from "../../../src/tensor/safetensors.ts";

/** Writes the golden answer `fitted`, with changes, as the update of client c0 in round 1, and reads it. */
async function readBack(changes: object, bytes: Uint8Array) {
  const folder = mkdtempSync(path.join(tmpdir(), "prelort-fit-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const messages = JSON.parse(readFileSync("test/fixtures/wire/expected.json", "utf8")) as readonly { message: { type: string } }[];
  const golden = messages.find(({ message }) => message.type === "fitted")?.message;
  const fit = JSON.stringify({
    ...golden,
    client_id: "c0",
    tensors: [{ name: "rows", dtype: "F32", shape: [1, 4], bytes: 16, crc32: 0, shared: null }],
    ...changes,
  });
  const metadata = { round: "1", adapter: "a", seed: "5", client_id: "c0", worker_id: "w0", fit, crc32: `${crc32(bytes, crc32(fit))}` };
  mkdirSync(path.join(folder, "1"));
  writeFileSync(
    path.join(folder, "1", "c0.safetensors"),
    Buffer.concat([...encodeRaw(new Map([["rows", { dtype: "F32", shape: [bytes.length / 4], bytes }]]), metadata)]),
  );
  return readRecordedFit(folder, "c0", { round: 1, adapter: "a", seed: "5" });
}

test("a recorded fit with fewer values than its answer states is refused, even if its checksum matches", async () => {
  await expect(readBack({}, new Uint8Array(12))).rejects.toMatchObject({ expected: "16 bytes", received: "12" });
});

test("a fit that was recorded with protocol 6, without a gradient norm, can be read", async () => {
  const { stored } = await readBack({ protocol_version: 6, grad_norm: undefined }, new Uint8Array(Float32Array.of(1, 2, 3, 4).buffer));
  expect([...(await stored.read("rows", 0, 4))]).toEqual([1, 2, 3, 4]);
});

test("a recorded answer that is not a fit is refused", async () => {
  const refusal = { kind: "refused", expected: expect.stringMatching(/\bround 1\b/) };
  await expect(readBack({ type: "evaluated" }, new Uint8Array(16))).rejects.toMatchObject(refusal);
  await expect(readBack({ client_id: 3 }, new Uint8Array(16))).rejects.toMatchObject(refusal);
});
