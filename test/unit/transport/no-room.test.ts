import type * as files from "node:fs";
import { expect, test, vi } from "vitest";
import { createSharedMemory } from "../../../src/transport/shared-memory.ts";

/** Every write fails, as if /dev/shm were full. */
const write = vi.hoisted(() =>
  vi.fn(() => {
    throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
  }),
);
vi.mock("node:fs", async (original) => ({ ...(await original<typeof files>()), write, writeSync: write }));

test.runIf(process.platform === "linux")(
  "shared memory lends nothing when it is full, and does not retry a buffer that did not fit",
  async () => {
    const memory = createSharedMemory();
    const [large, small] = [new Uint8Array(100_000), new Uint8Array(10)];
    expect(await memory.lend(large)).toBeUndefined();
    expect(await memory.lend(large.subarray(10))).toBeUndefined();
    expect(write).toHaveBeenCalledTimes(1);
    expect(await memory.lend(small)).toBeUndefined();
    expect(write).toHaveBeenCalledTimes(2);
    await memory.close();
  },
);
