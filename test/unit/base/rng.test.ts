import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { createRng, deriveSeed } from "../../../src/base/rng.ts";

test("a derived seed is the SHA-256 of its length-prefixed parts", () => {
  const digest = createHash("sha256").update("2:425:round1:3").digest("hex");
  expect(deriveSeed(42, "round", 3)).toBe(digest.slice(0, 32));
});

test("different parts that are equal when joined give different seeds", () => {
  const seeds = [
    deriveSeed(1, "ab", "c"),
    deriveSeed(1, "a", "bc"),
    deriveSeed(1, "abc"),
    deriveSeed(1, "c", "ab"),
    deriveSeed(11, "ab", "c"),
  ];
  expect(new Set(seeds).size).toBe(seeds.length);
});

test("a seed always gives the same stream, since records of past runs depend on it", () => {
  const rng = createRng("000102030405060708090a0b0c0d0e0f");
  const integers = Array.from({ length: 4 }, () => rng.next() * 2 ** 32);
  expect(integers).toEqual(referenceSfc32([0x00010203, 0x04050607, 0x08090a0b, 0x0c0d0e0f], 16).slice(12));
});

test("values are spread evenly over [0, 1)", () => {
  const rng = createRng(deriveSeed(0, "test"));
  const counts = Array<number>(10).fill(0);
  for (let draw = 0; draw < 10_000; draw++) counts[Math.floor(rng.next() * 10)]! += 1;
  for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(150);
});

test("a shuffle returns a permuted copy", () => {
  const items = [1, 2, 3, 4, 5, 6, 7, 8];
  const shuffled = createRng(deriveSeed(0)).shuffle(items);
  expect(items).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  expect(shuffled).not.toEqual(items);
  expect(shuffled.toSorted((a, b) => a - b)).toEqual(items);
});

/** sfc32 as in PractRand, with unbounded integers. */
function referenceSfc32([a, b, c, counter]: [number, number, number, number], length: number): number[] {
  const wrap = (value: bigint) => BigInt.asUintN(32, value);
  let state = { a: BigInt(a), b: BigInt(b), c: BigInt(c), counter: BigInt(counter) };
  return Array.from({ length }, () => {
    const output = wrap(state.a + state.b + state.counter);
    const rotated = wrap((state.c << 21n) | (state.c >> 11n));
    state = {
      a: state.b ^ (state.b >> 9n),
      b: wrap(state.c + (state.c << 3n)),
      c: wrap(rotated + output),
      counter: wrap(state.counter + 1n),
    };
    return Number(output);
  });
}
