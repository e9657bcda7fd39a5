import process from "node:process";
import * as fc from "fast-check";
import { expect, test } from "vitest";

test("property tests draw the same cases every time, or those of the seed that npm run fuzz gives", () => {
  const drawn: number[][] = [];
  for (let again = 0; again < 2; again++) {
    const cases: number[] = [];
    fc.assert(fc.property(fc.nat(), (value) => void cases.push(value)));
    drawn.push(cases);
  }
  expect(drawn[0]).toEqual(drawn[1]);
  expect(drawn[0]).toHaveLength(Number(process.env["PRELORT_PROPERTY_RUNS"] ?? 100));
});
