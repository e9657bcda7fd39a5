import { describe, expect, it } from "vitest";
import { wilsonInterval } from "../../../src/report/interval.ts";

describe("the 95 % interval of a share", () => {
  // R. G. Newcombe, Statistics in Medicine 17, 1998, table I: method 3.
  it.each([
    [81, 263, 0.2553, 0.3662],
    [15, 148, 0.0624, 0.1605],
    [0, 20, 0, 0.1611],
    [1, 29, 0.0061, 0.1718],
  ])("agrees with Newcombe for %i of %i examples", (right, n, low, high) => {
    const interval = wilsonInterval(right / n, n);
    expect(interval?.low).toBeCloseTo(low, 4);
    expect(interval?.high).toBeCloseTo(high, 4);
  });

  it("is between 0 and 1, and not empty even if all or none are right", () => {
    const [none, all] = [wilsonInterval(0, 1), wilsonInterval(1, 1)];
    // z²/(1 + z²) with z = 1.959964.
    expect(none).toEqual({ low: 0, high: expect.closeTo(0.7935, 4) });
    expect(all).toEqual({ low: expect.closeTo(0.2065, 4), high: 1 });
  });

  it("is null without examples", () => {
    expect(wilsonInterval(0, 0)).toBeNull();
  });
});
