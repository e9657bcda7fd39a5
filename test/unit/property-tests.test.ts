import process from "node:process";
import * as fc from "fast-check";
import { expect, test } from "vitest";

test("property tests draw the same cases every time, from the default seed or from that of npm run fuzz", () => {
  const drawn: number[][] = [];
  for (let repeat = 0; repeat < 2; repeat++) {
    const cases: number[] = [];
    fc.assert(fc.property(fc.nat(), (value) => void cases.push(value)));
    drawn.push(cases);
  }
  expect(drawn[0]).toEqual(drawn[1]);
  expect(drawn[0]).toHaveLength(Number(process.env["PRELORT_PROPERTY_RUNS"] ?? 100));
});
