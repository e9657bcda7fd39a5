import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
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
  /** As another process does. */
  const read = ({ fd, offset }: { fd: number; offset: number }, length: number) =>
    new Uint8Array(readFileSync(`/proc/${process.pid}/fd/${fd}`).subarray(offset, offset + length));

  test.each([0, 1, 1000, 300_000])("gives %d bytes as they were", async (length) => {
    expect(read(await lend(bytes(length)), length)).toEqual(bytes(length));
  });

  test("writes a buffer once, however many prefixes of it are lent", async () => {
    const whole = bytes(100_000);
    const [all, prefix] = [await lend(whole), await lend(whole.subarray(0, 10))];
    expect(prefix.fd).toBe(all.fd);
    expect(read(prefix, 10)).toEqual(bytes(10));
    const middle = await lend(whole.subarray(500, 700));
    expect([middle.fd, middle.offset]).toEqual([all.fd, 500]);
  });

  test("adds parts of a buffer that were not lent before, in its own place each", async () => {
    const whole = bytes(1000);
    const [end, start] = [await lend(whole.subarray(900)), await lend(whole.subarray(0, 50))];
    expect(start.fd).toBe(end.fd);
    expect([read(start, 50), read(end, 100)]).toEqual([whole.slice(0, 50), whole.slice(900)]);
  });

  test("keeps what somebody reads, and writes over what nobody does", async () => {
    const [held, released] = [await lend(bytes(100)), await lend(bytes(200, 1))];
    released.release();
    released.release(); // counts once
    const next = await lend(bytes(300, 2));
    expect(next.fd).toBe(released.fd);
    expect(read(held, 100)).toEqual(bytes(100));
    expect(read(next, 300)).toEqual(bytes(300, 2));
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

  describe("what another process lends", () => {
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

    test("is read whole, several tensors of a file, and then said to be read", async () => {
      const tensors = [
        { from: { fd: file, offset: 1 }, into: new Uint8Array(90_000) },
        { from: { fd: file, offset: 90_001 }, into: new Uint8Array(10_000) },
      ];
      const reading = borrow(tensors);
      expect(first()).toBe(0);
      await reading;
      expect(Buffer.concat(tensors.map(({ into }) => into))).toEqual(Buffer.from(bytes(100_000)));
      expect(first()).toBe(1);
    });

    test("is no file of the user's, which is left as it is", async () => {
      const path = join(folder, "model.safetensors");
      writeFileSync(path, "12345");
      const fd = openSync(path, "r+");
      await expect(borrow([{ from: { fd, offset: 0 }, into: new Uint8Array(2) }])).rejects.toThrow("expected a file without a name");
      closeSync(fd);
      expect(readFileSync(path, "utf8")).toBe("12345");
    });

    test.each<readonly [string, () => { fd: number; offset: number }, RegExp]>([
      [
        "a descriptor that is not open",
        () => ({ fd: 999_999, offset: 0 }),
        /shared memory .*fd\/999999: expected a file without a name, got none/,
      ],
      ["what is no file", () => ({ fd: openSync("/dev/null", "r+"), offset: 0 }), /expected a file without a name, got none/],
      ["a file that is too short", () => ({ fd: file, offset: 99_998 }), /shared memory: expected 100008 bytes, got 100001/],
    ])("is refused where it is %s", async (_, make, message) => {
      const from = make();
      const reading = borrow([{ from, into: new Uint8Array(10) }]);
      await expect(reading).rejects.toThrow(RefusedError);
      await expect(reading).rejects.toThrow(message);
      expect(first()).toBe(from.fd === file ? 1 : 0); // it will not be read again
      if (from.fd !== file && from.fd < 999_999) closeSync(from.fd);
    });
  });
});
