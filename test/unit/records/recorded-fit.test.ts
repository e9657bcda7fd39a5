import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { crc32 } from "node:zlib";
import { expect, onTestFinished, test } from "vitest";
import { readRecordedFit } from "../../../src/records/update-store.ts";
import { encodeRaw } from "../../../src/tensor/safetensors.ts";

test("a recorded update with fewer values than its message says is refused, though its checksum is right", async () => {
  const folder = mkdtempSync(path.join(tmpdir(), "prelort-fit-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const messages = JSON.parse(readFileSync("test/fixtures/wire/expected.json", "utf8")) as readonly { message: { type: string } }[];
  const golden = messages.find(({ message }) => message.type === "fitted")?.message;
  const fit = JSON.stringify({
    ...golden,
    client_id: "c0",
    tensors: [{ name: "rows", dtype: "F32", shape: [1, 4], bytes: 16, crc32: 0, shared: null }],
  });
  const bytes = new Uint8Array(12);
  const metadata = { round: "1", adapter: "a", seed: "5", client_id: "c0", worker_id: "w0", fit, crc32: `${crc32(bytes, crc32(fit))}` };
  mkdirSync(path.join(folder, "1"));
  writeFileSync(
    path.join(folder, "1", "c0.safetensors"),
    Buffer.concat(encodeRaw(new Map([["rows", { dtype: "F32", shape: [3], bytes }]]), metadata)),
  );
  await expect(readRecordedFit(folder, "c0", { round: 1, adapter: "a", seed: "5" })).rejects.toThrow("expected 16 bytes, got 12");
});
