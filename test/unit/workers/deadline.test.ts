import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createDeadline } from "../../../src/workers/deadline.ts";

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

test("a deadline expires once, its duration after the last restart", () => {
  const expire = vi.fn();
  const deadline = createDeadline(1000, expire);
  vi.advanceTimersByTime(5000);
  deadline.restart();
  vi.advanceTimersByTime(900);
  deadline.restart();
  vi.advanceTimersByTime(999);
  expect(expire).not.toHaveBeenCalled();
  vi.advanceTimersByTime(5000);
  expect(expire).toHaveBeenCalledTimes(1);
});

test("a cleared deadline does not expire and leaves no timer", () => {
  const expire = vi.fn();
  const deadline = createDeadline(1000, expire);
  deadline.restart();
  deadline.clear();
  expect(vi.getTimerCount()).toBe(0);
  vi.advanceTimersByTime(5000);
  expect(expire).not.toHaveBeenCalled();
});

test("time in which this process was blocked barely counts towards a deadline", () => {
  vi.useRealTimers();
  const expire = vi.fn();
  const deadline = createDeadline(200, expire);
  deadline.restart();
  const held = performance.now() + 300;
  while (performance.now() < held);
  return new Promise<void>((resolve) => {
    // The first turn of the loop after it was blocked: whatever arrived meanwhile is handled before the deadline expires.
    setTimeout(() => {
      expect(expire).not.toHaveBeenCalled();
      deadline.clear();
      resolve();
    }, 0);
  });
});
