import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { createEventStream } from "../../../src/server/event-stream.ts";

interface Event {
  readonly number: number;
  readonly value: string | number;
}

/** A stream of values, which are numbered from 1 as they are pushed, and what its readers see of it. */
function createStream() {
  const stream = createEventStream<Event>();
  let number = 0;
  async function* read(after?: number) {
    for await (const event of stream.read({ after })) yield event.value;
  }
  return {
    push: (value: string | number, key?: string) => stream.push({ number: ++number, value }, key),
    end: (error?: unknown) => stream.end(error),
    read,
    collect: (after?: number) => collect(read(after)),
  };
}

async function collect<T>(values: AsyncIterable<T>): Promise<T[]> {
  const seen: T[] = [];
  for await (const value of values) seen.push(value);
  return seen;
}

test("events pushed before anyone reads are kept in order", async () => {
  const stream = createStream();
  for (const value of [1, 2, 3]) stream.push(value);
  stream.end();
  expect(await stream.collect()).toEqual([1, 2, 3]);
});

test("a waiting reader is woken by the next event", async () => {
  const stream = createStream();
  const seen = stream.collect();
  stream.push("a");
  await Promise.resolve();
  stream.push("b");
  stream.end();
  expect(await seen).toEqual(["a", "b"]);
});

test("each of several readers gets every event from the start, however late it attaches", async () => {
  const stream = createStream();
  stream.push(1);
  const early = [stream.collect(), stream.collect()];
  stream.push(2);
  for await (const event of stream.read()) if (event === 2) break;
  stream.push(3);
  stream.end();
  expect(await Promise.all([...early, stream.collect()])).toEqual([
    [1, 2, 3],
    [1, 2, 3],
    [1, 2, 3],
  ]);
});

test("a reader that is behind gets only the latest event of each key, in order among the others", async () => {
  const stream = createStream();
  stream.push("w0 step 1", "w0");
  stream.push("start");
  stream.push("w1 step 1", "w1");
  stream.push("fit");
  stream.push("w0 step 2", "w0");
  stream.push("end");
  stream.end();
  expect(await stream.collect()).toEqual(["start", "w1 step 1", "fit", "w0 step 2", "end"]);
});

test("a reader that keeps up also gets every event with a key", async () => {
  const stream = createStream();
  const reader = stream.read();
  for (const step of ["w0 step 1", "w0 step 2", "fit", "w0 step 3"]) {
    stream.push(step, step === "fit" ? undefined : "w0");
    expect(await reader.next()).toEqual({ value: step, done: false });
  }
});

test("a late reader gets the latest 100,000 events, and one that attached at the start misses none", async () => {
  const stream = createStream();
  const reader = stream.read();
  stream.push(0);
  expect(await reader.next()).toEqual({ value: 0, done: false });
  for (let value = 1; value < 100_005; value++) stream.push(value);
  stream.end();
  const late = await stream.collect();
  expect([late.length, late[0], late.at(-1)]).toEqual([100_000, 5, 100_004]);
  const rest = await collect(reader);
  expect([rest.length, rest[0]]).toEqual([100_004, 1]);
});

test("a reader that has seen events gets those with higher numbers, and then each that follows", async () => {
  const stream = createStream();
  for (const value of ["a", "b", "c"]) stream.push(value);
  stream.push("w0 step 1", "w0");
  const [second, late, none] = [stream.collect(2), stream.collect(4), stream.collect(6)];
  stream.push("d");
  stream.push("e");
  stream.end();
  expect(await Promise.all([second, late, none])).toEqual([["c", "w0 step 1", "d", "e"], ["d", "e"], []]);
});

test("after a reader breaks out of its loop, unread events do not pile up", async () => {
  setFlagsFromString("--expose-gc");
  const collectGarbage = runInNewContext("gc") as () => void;
  const stream = createEventStream<{ readonly number: number }>();
  stream.push({ number: 1 });
  for await (const _ of stream.read()) break;
  const statuses = Array.from({ length: 200 }, (_, number) => {
    const status = { number: number + 2 };
    stream.push(status, `w${number % 2}`);
    return new WeakRef(status);
  });
  // A WeakRef keeps its object alive until the end of the turn that created it.
  await new Promise((resolve) => setImmediate(resolve));
  collectGarbage();
  expect(statuses.flatMap((status) => (status.deref() ? [(status.deref() as { number: number }).number] : []))).toEqual([200, 201]);
});

test("every reader, even a late one, gets the events before an error and then the error", async () => {
  const stream = createStream();
  stream.push(1);
  stream.end(new Error("the worker died"));
  stream.push(2);
  for (const _ of [1, 2]) {
    const seen: (string | number)[] = [];
    const reading = (async () => {
      for await (const event of stream.read()) seen.push(event);
    })();
    await expect(reading).rejects.toThrow("the worker died");
    expect(seen).toEqual([1]);
  }
});
