import { expect, test } from "vitest";
import { createEventStream } from "../../../src/server/event-stream.ts";

async function collect<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const seen: T[] = [];
  for await (const event of stream) seen.push(event);
  return seen;
}

test("events pushed before anyone reads are all there, in order", async () => {
  const stream = createEventStream<number>();
  for (const value of [1, 2, 3]) stream.push(value);
  stream.end();
  expect(await collect(stream)).toEqual([1, 2, 3]);
});

test("a reader that waits is woken by the next event", async () => {
  const stream = createEventStream<string>();
  const seen = collect(stream);
  stream.push("a");
  await Promise.resolve();
  stream.push("b");
  stream.end();
  expect(await seen).toEqual(["a", "b"]);
});

test("only the latest of unread events with one key is kept", async () => {
  const stream = createEventStream<string>();
  stream.push("w0 step 1", "w0");
  stream.push("w1 step 1", "w1");
  stream.push("w0 step 2", "w0");
  stream.end();
  expect(await collect(stream)).toEqual(["w1 step 1", "w0 step 2"]);
});

test("who never reads costs no memory without end: the oldest events go", async () => {
  const stream = createEventStream<number>();
  for (let value = 0; value < 10_005; value++) stream.push(value);
  stream.end();
  expect((await collect(stream)).slice(0, 2)).toEqual([5, 6]);
});

test("a second reader is refused, since each would get a part", async () => {
  const stream = createEventStream<number>();
  const first = collect(stream);
  await expect(collect(stream)).rejects.toThrow("one reader");
  stream.end();
  expect(await first).toEqual([]);
});

test("what came before an error is delivered, then the error is thrown", async () => {
  const stream = createEventStream<number>();
  stream.push(1);
  stream.end(new Error("the worker died"));
  stream.push(2);
  const seen: number[] = [];
  const reading = (async () => {
    for await (const event of stream) seen.push(event);
  })();
  await expect(reading).rejects.toThrow("the worker died");
  expect(seen).toEqual([1]);
});
