import { expect, test } from "vitest";
import { createBuffers } from "../../../src/workers/buffers.ts";

test("returned memory is reused: the smallest buffer that is large enough", () => {
  const buffers = createBuffers();
  const [small, large] = [buffers.take(10), buffers.take(100)];
  buffers.give(large);
  buffers.give(small);
  const again = buffers.take(8);
  expect([again.buffer, again.length]).toEqual([small.buffer, 8]);
  expect(buffers.take(9).buffer).toBe(large.buffer);
});

test("a buffer in use is never handed out, and a spare one that is too small is dropped for a larger one", () => {
  const buffers = createBuffers();
  const [a, b] = [buffers.take(10), buffers.take(10)];
  expect(a.buffer).not.toBe(b.buffer);
  buffers.give(a);
  expect(buffers.take(20)).toHaveLength(20);
  expect(buffers.take(10).buffer).not.toBe(a.buffer);
});
