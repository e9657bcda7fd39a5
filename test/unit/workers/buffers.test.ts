import { expect, test } from "vitest";
import { createBuffers } from "../../../src/workers/buffers.ts";

test("memory that was given back is used again, the smallest that is large enough", () => {
  const buffers = createBuffers();
  const [small, large] = [buffers.take(10), buffers.take(100)];
  buffers.give(large);
  buffers.give(small);
  const again = buffers.take(8);
  expect([again.buffer, again.length]).toEqual([small.buffer, 8]);
  expect(buffers.take(9).buffer).toBe(large.buffer);
});

test("what is in use is never handed out, and one that is too small makes way for a larger", () => {
  const buffers = createBuffers();
  const [one, other] = [buffers.take(10), buffers.take(10)];
  expect(one.buffer).not.toBe(other.buffer);
  buffers.give(one);
  expect(buffers.take(20)).toHaveLength(20);
  expect(buffers.take(10).buffer).not.toBe(one.buffer);
});
