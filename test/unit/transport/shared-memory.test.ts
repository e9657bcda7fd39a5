import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { RefusedError } from "../../../src/errors.ts";
import type { Lender } from "../../../src/transport/lender.ts";
import { borrowFrom, canShareWith, createSharedMemory } from "../../../src/transport/shared-memory.ts";

/* Only Linux has what this needs; elsewhere tensors go through the socket. */
describe.runIf(process.platform === "linux")("shared memory", () => {
  let memory: Lender;
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
  /** Reads like another process. */
  const read = ({ fd, offset }: { fd: number; offset: number }, length: number) =>
    new Uint8Array(readFileSync(`/proc/${process.pid}/fd/${fd}`).subarray(offset, offset + length));

  test.each([0, 1, 1000, 300_000])("lends %d bytes unchanged", async (length) => {
    expect(read(await lend(bytes(length)), length)).toEqual(bytes(length));
  });

  test("writes a buffer once, however many views of it are lent", async () => {
    const whole = bytes(100_000);
    const [all, prefix] = [await lend(whole), await lend(whole.subarray(0, 10))];
    expect(prefix.fd).toBe(all.fd);
    expect(read(prefix, 10)).toEqual(bytes(10));
    const middle = await lend(whole.subarray(500, 700));
    expect([middle.fd, middle.offset]).toEqual([all.fd, 500]);
  });

  test("writes parts of a buffer that were not lent before to the same file, each at its own offset", async () => {
    const whole = bytes(1000);
    const [end, start] = [await lend(whole.subarray(900)), await lend(whole.subarray(0, 50))];
    expect(start.fd).toBe(end.fd);
    expect([read(start, 50), read(end, 100)]).toEqual([whole.slice(0, 50), whole.slice(900)]);
  });

  test("keeps buffers that are being read and overwrites released ones", async () => {
    const [held, released] = [await lend(bytes(100)), await lend(bytes(200, 1))];
    released.release();
    released.release(); // counts once
    const next = await lend(bytes(300, 2));
    expect(next.fd).toBe(released.fd);
    expect(read(held, 100)).toEqual(bytes(100));
    expect(read(next, 300)).toEqual(bytes(300, 2));
  });

  test("can be read by another process through /proc", async () => {
    const { fd, offset } = await lend(bytes(5, 65));
    const { stdout } = spawnSync("head", ["-c", `${offset + 5}`, `/proc/${process.pid}/fd/${fd}`], { encoding: "latin1" });
    expect(stdout).toBe("ABCDE");
  });

  test("has no name in the file system and leaves no descriptor open", async () => {
    const open = () => readdirSync("/proc/self/fd").length;
    const before = { files: readdirSync("/dev/shm"), open: open() };
    const another = createSharedMemory();
    await another.lend(bytes(10));
    await another.lend(bytes(20));
    expect(readdirSync("/dev/shm")).toEqual(before.files);
    expect(open()).toBe(before.open + 2);
    await another.close();
    expect(open()).toBe(before.open);
    expect(await another.lend(bytes(10))).toBeUndefined();
  });

  test("can be shared with one of our processes, but not with one that does not exist", () => {
    expect([canShareWith(process.pid), canShareWith(2 ** 22 + 1)]).toEqual([true, false]);
  });

  describe("memory lent by another process", () => {
    let folder: string;
    let file: number;
    beforeEach(() => {
      folder = mkdtempSync(join(tmpdir(), "shared-memory-"));
      writeFileSync(join(folder, "lent"), Uint8Array.of(0, ...bytes(100_000)));
      file = openSync(join(folder, "lent"), "r+");
      rmSync(join(folder, "lent"));
    });
    afterEach(() => {
      closeSync(file);
      rmSync(folder, { recursive: true });
    });
    const first = () => readFileSync(`/proc/self/fd/${file}`)[0];

    test("is read completely, even several tensors of one file, and only then marked as read", async () => {
      const tensors = [
        { from: { pid: null, fd: file, offset: 1 }, into: new Uint8Array(90_000) },
        { from: { pid: null, fd: file, offset: 90_001 }, into: new Uint8Array(10_000) },
      ];
      const reading = borrow(tensors);
      expect(first()).toBe(0);
      await reading;
      expect(Buffer.concat(tensors.map(({ into }) => into))).toEqual(Buffer.from(bytes(100_000)));
      expect(first()).toBe(1);
    });

    test("is refused if it is one of the user's files, which remains unchanged", async () => {
      const path = join(folder, "model.safetensors");
      writeFileSync(path, "12345");
      const fd = openSync(path, "r+");
      await expect(borrow([{ from: { pid: null, fd, offset: 0 }, into: new Uint8Array(2) }])).rejects.toThrow(RefusedError);
      closeSync(fd);
      expect(readFileSync(path, "utf8")).toBe("12345");
    });

    test.each<readonly [string, () => { pid: null; fd: number; offset: number }, RegExp]>([
      ["a descriptor that is not open", () => ({ pid: null, fd: 999_999, offset: 0 }), /fd\/999999\b/],
      ["not a regular file", () => ({ pid: null, fd: openSync("/dev/null", "r+"), offset: 0 }), /\/proc\/\d+\/fd\/\d+\b/],
      ["a file that is too short", () => ({ pid: null, fd: file, offset: 99_998 }), /\b100008\b.*\b100001\b/],
    ])("is refused if it is %s", async (_, make, message) => {
      const from = make();
      const reading = borrow([{ from, into: new Uint8Array(10) }]);
      await expect(reading).rejects.toThrow(RefusedError);
      await expect(reading).rejects.toThrow(message);
      expect(first()).toBe(from.fd === file ? 1 : 0); // it will not be read again
      if (from.fd !== file && from.fd < 999_999) closeSync(from.fd);
    });
  });
});
