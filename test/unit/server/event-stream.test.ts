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
    end: () => stream.end(),
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
  stream.push(4);
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

test("a reader that starts late or falls behind gets what is in memory, and by recall all that it lacks", async () => {
  const stream = createEventStream<Event>();
  const all: Event[] = Array.from({ length: 200_005 }, (_, value) => ({ number: value + 1, value }));
  const recalls: number[] = [];
  const recall = async (after: number) => {
    recalls.push(after);
    return all.slice(after, after + 30_000);
  };
  const [slow, forgetful] = [stream.read({ recall }), stream.read()].map((events) => events[Symbol.asyncIterator]());
  stream.push(all[0] as Event);
  for (const reader of [slow, forgetful]) expect((await reader?.next())?.value).toEqual(all[0]);
  for (const event of all.slice(1)) stream.push(event);
  stream.end();
  const numbers = async (events: AsyncIterable<Event>) => (await collect(events)).map(({ number }) => number);
  const rest = (reader: AsyncIterator<Event> | undefined) => ({ [Symbol.asyncIterator]: () => reader as AsyncIterator<Event> });
  expect(await numbers(rest(slow))).toEqual(all.slice(1).map(({ number }) => number));
  expect(recalls).toEqual([1, 30_001, 60_001, 90_001]);
  const inMemory = all.slice(100_000).map(({ number }) => number);
  expect(await numbers(rest(forgetful))).toEqual(inMemory);
  expect(await numbers(stream.read({ recall }))).toEqual(inMemory);
  expect(await numbers(stream.read({ after: 150_000, recall }))).toEqual(all.slice(150_000).map(({ number }) => number));
  expect(await numbers(stream.read({ after: 7, recall }))).toEqual(all.slice(7).map(({ number }) => number));
});

test("a reader that stands still keeps no event in memory", async () => {
  setFlagsFromString("--expose-gc");
  const collectGarbage = runInNewContext("gc") as () => void;
  const stream = createEventStream<{ readonly number: number }>();
  const reader = stream.read()[Symbol.asyncIterator]();
  stream.push({ number: 1 });
  await reader.next();
  const early = (() => {
    const event = { number: 2 };
    stream.push(event);
    return new WeakRef(event);
  })();
  for (let number = 3; number <= 200_010; number++) stream.push({ number });
  await new Promise((resolve) => setImmediate(resolve));
  collectGarbage();
  expect(early.deref()).toBeUndefined();
  expect((await reader.next()).value).toEqual({ number: 100_001 });
});

test("each of several readers with one signal is woken when it aborts", async () => {
  const stream = createEventStream<Event>();
  const leaving = new AbortController();
  const readers = [1, 2, 3].map(() => collect(stream.read({ signal: leaving.signal })));
  stream.push({ number: 1, value: "a" });
  await new Promise((resolve) => setImmediate(resolve));
  leaving.abort();
  expect((await Promise.all(readers)).map(({ length }) => length)).toEqual([1, 1, 1]);
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

test("a signal ends the iteration of its reader, also while it waits, and of no other", async () => {
  const stream = createEventStream<Event>();
  const leaving = new AbortController();
  const waiting = [collect(stream.read({ signal: leaving.signal })), collect(stream.read())];
  const first = { number: 1, value: "a" };
  stream.push(first);
  await new Promise((resolve) => setImmediate(resolve));
  leaving.abort();
  expect(await waiting[0]).toEqual([first]);
  const second = { number: 2, value: "b" };
  stream.push(second);
  stream.end();
  expect(await waiting[1]).toEqual([first, second]);
  expect(await collect(stream.read({ signal: leaving.signal }))).toEqual([]);
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
