import { setImmediate } from "node:timers/promises";
import { expect, test } from "vitest";
import { createDeferred } from "../../../src/base/deferred.ts";
import { createLender, type MemoryFile } from "../../../src/transport/lender.ts";

/** A file in memory whose writes end when the test says so. */
class SlowFile implements MemoryFile {
  readonly content = new Uint8Array(8);
  readonly writes: { readonly finish: () => void; readonly fail: () => void }[] = [];
  readonly #number: number;

  constructor(number: number) {
    this.#number = number;
  }

  fd(): number {
    return this.#number;
  }

  async write(bytes: Uint8Array, offset: number): Promise<void> {
    const written = createDeferred<void>();
    const finish = () => {
      this.content.set(bytes, offset);
      written.resolve();
    };
    this.writes.push({ finish, fail: () => written.reject(new Error("no room")) });
    await written.promise;
  }

  empty(): void {
    this.content.fill(0);
  }

  close(): void {}
}

test("a file that is still being written to for one buffer is not given to another", async () => {
  const files: SlowFile[] = [];
  const open = () => {
    const file = new SlowFile(files.length);
    files.push(file);
    return file;
  };
  const lender = createLender({ pid: 1, open });
  const [old, next] = [new Uint8Array(8).fill(1), new Uint8Array(8).fill(2)];
  const short = lender.lend(old.subarray(0, 4));
  const long = lender.lend(old);
  const [start, rest] = files[0]!.writes;
  // There is no room for the prefix, while the rest of a longer one is on its way.
  start!.fail();
  expect(await short).toBeUndefined();
  await setImmediate();
  const lending = lender.lend(next);
  files.at(-1)!.writes.at(-1)!.finish();
  const lent = await lending;
  rest!.finish();
  expect(await long).toBeUndefined();
  expect([...files[lent?.fd ?? -1]!.content]).toEqual([...next]);
});
