import { spawnSync } from "node:child_process";
import { closeSync, fstatSync, mkdtempSync, openSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { RefusedError } from "../../../src/errors.ts";
import { borrowFrom, canShareWith, createSharedMemory, type SharedMemory } from "../../../src/transport/shared-memory.ts";

/* Linux alone has what this needs; elsewhere tensors go through the socket. */
describe.runIf(process.platform === "linux")("shared memory", () => {
  let memory: SharedMemory;
  const borrow = borrowFrom(process.pid);
  beforeEach(() => {
    memory = createSharedMemory();
  });
  afterEach(() => memory.close());

  const lend = async (bytes: Uint8Array) => {
    const lent = await memory.lend(bytes);
    if (!lent) throw new Error("there is room for this");
    return lent;
  };
  const bytes = (length: number, first = 0) => Uint8Array.from({ length }, (_, index) => (first + index) % 251);
  const read = async (from: { fd: number; offset: number }, length: number) => {
    const into = new Uint8Array(length);
    await borrow(from, into);
    return into;
  };

  test.each([0, 1, 1000, 300_000])("gives %d bytes as they were", async (length) => {
    expect(await read(await lend(bytes(length)), length)).toEqual(bytes(length));
  });

  test("writes a buffer once, however many prefixes of it are lent", async () => {
    const whole = bytes(100_000);
    const [all, prefix] = [await lend(whole), await lend(whole.subarray(0, 10))];
    expect(prefix.fd).toBe(all.fd);
    expect(await read(prefix, 10)).toEqual(bytes(10));
    const middle = await lend(whole.subarray(500, 700));
    expect([middle.fd, middle.offset]).toEqual([all.fd, 500]);
  });

  test("adds parts of a buffer that were not lent before, in its own place each", async () => {
    const whole = bytes(1000);
    const [end, start] = [await lend(whole.subarray(900)), await lend(whole.subarray(0, 50))];
    expect(start.fd).toBe(end.fd);
    expect([await read(start, 50), await read(end, 100)]).toEqual([whole.slice(0, 50), whole.slice(900)]);
  });

  test("keeps what somebody reads, and writes over what nobody does", async () => {
    const [held, released] = [await lend(bytes(100)), await lend(bytes(200, 1))];
    released.release();
    released.release(); // counts once
    const next = await lend(bytes(300, 2));
    expect(next.fd).toBe(released.fd);
    expect(await read(held, 100)).toEqual(bytes(100));
    expect(await read(next, 300)).toEqual(bytes(300, 2));
  });

  test("another process reads it by our number", async () => {
    const { fd, offset } = await lend(bytes(5, 65));
    const { stdout } = spawnSync("head", ["-c", `${offset + 5}`, `/proc/${process.pid}/fd/${fd}`], { encoding: "latin1" });
    expect(stdout).toBe("ABCDE");
  });

  test("has no name in the file system, and leaves no descriptor open", async () => {
    const open = () => readdirSync("/proc/self/fd").length;
    const before = { files: readdirSync("/dev/shm"), open: open() };
    const other = createSharedMemory();
    await other.lend(bytes(10));
    await other.lend(bytes(20));
    expect(readdirSync("/dev/shm")).toEqual(before.files);
    expect(open()).toBe(before.open + 2);
    await other.close();
    expect(open()).toBe(before.open);
    expect(await other.lend(bytes(10))).toBeUndefined();
  });

  test("can be shared with a process of ours, not with one that is not there", () => {
    expect([canShareWith(process.pid), canShareWith(2 ** 22 + 1)]).toEqual([true, false]);
  });

  test.each<readonly [string, (file: string) => { fd: number; offset: number }, RegExp]>([
    ["a descriptor that is not open", () => ({ fd: 999_999, offset: 0 }), /shared memory .*fd\/999999: expected a file, got none/],
    ["what is no file", () => ({ fd: openSync("/dev/null", "r"), offset: 0 }), /expected a file, got none/],
    ["a file that is too short", (file) => ({ fd: openSync(file, "r"), offset: 3 }), /shared memory: expected 13 bytes, got 5/],
  ])("%s is refused", async (_, make, message) => {
    const folder = mkdtempSync(join(tmpdir(), "shared-memory-"));
    writeFileSync(join(folder, "file"), "12345");
    const from = make(join(folder, "file"));
    const reading = read(from, 10);
    await expect(reading).rejects.toThrow(RefusedError);
    await expect(reading).rejects.toThrow(message);
    if (from.fd < 999_999) expect(fstatSync(from.fd).size).toBeLessThan(10); // the lender's own stays open
    if (from.fd < 999_999) closeSync(from.fd);
    rmSync(folder, { recursive: true });
  });
});
