import type * as files from "node:fs";
import { expect, test, vi } from "vitest";
import { createSharedMemory } from "../../../src/transport/shared-memory.ts";

/** Every write fails, as where /dev/shm is full. */
const write = vi.hoisted(() =>
  vi.fn(() => {
    throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
  }),
);
vi.mock("node:fs", async (original) => ({ ...(await original<typeof files>()), write, writeSync: write }));

test.runIf(process.platform === "linux")("where there is no room nothing is lent, and what did not fit is not tried again", async () => {
  const memory = createSharedMemory();
  const [large, small] = [new Uint8Array(100_000), new Uint8Array(10)];
  expect(await memory.lend(large)).toBeUndefined();
  expect(await memory.lend(large.subarray(10))).toBeUndefined();
  expect(write).toHaveBeenCalledTimes(1);
  expect(await memory.lend(small)).toBeUndefined();
  expect(write).toHaveBeenCalledTimes(2);
  await memory.close();
});
