import { expect, it } from "vitest";
import { formatBytes, formatNumber, formatPercent, formatSeconds, plural } from "../../../src/report/format.ts";

it.each([
  [0, "0 B"],
  [1023, "1023 B"],
  [1024, "1.0 KiB"],
  [5 * 2 ** 30, "5.0 GiB"],
  [2 ** 60, "1048576.0 TiB"],
])("%d bytes are %s", (bytes, expected) => expect(formatBytes(bytes)).toBe(expected));

it.each([
  [0.04, "0.0 s"],
  [9.94, "9.9 s"],
  [9.96, "10 s"],
  [59.4, "59 s"],
  [59.6, "1 min 0 s"],
  [119.7, "2 min 0 s"],
  [3600, "1 h 0 min"],
])("%d seconds are %s", (seconds, expected) => expect(formatSeconds(seconds)).toBe(expected));

it("a missing number is a dash", () => {
  expect(formatNumber(null)).toBe("—");
  expect(formatPercent(null)).toBe("—");
});

it("large numbers keep four digits", () => expect(formatNumber(123_456.7)).toBe("123,500"));

it("only 1 is singular", () => expect([plural(1, "round"), plural(2000, "round")]).toEqual(["1 round", "2,000 rounds"]));
