import process from "node:process";
import { afterEach, expect, test, vi } from "vitest";
import { onInterrupt } from "../../../src/cli/interrupt.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

test("the first signal stops in order, and the second ends the process with 130 and says so", () => {
  const exit = vi.spyOn(process, "exit").mockImplementation((code) => {
    throw new Error(`exited with ${code}`);
  });
  const lines: string[] = [];
  const interrupt = onInterrupt((line) => lines.push(line), "models are kept");
  process.emit("SIGINT", "SIGINT");
  expect(interrupt.signal.aborted).toBe(true);
  expect(exit).not.toHaveBeenCalled();
  expect(() => process.emit("SIGTERM", "SIGTERM")).toThrow("exited with 130");
  expect(lines).toEqual([
    "SIGINT: stopping; models are kept. Send it again to stop now.",
    "SIGTERM again: stopping now; workers end with this process",
  ]);
  interrupt.dispose();
});

test("after dispose, no listener is left", () => {
  const count = () => (["SIGINT", "SIGTERM", "SIGHUP"] as const).map((name) => process.listenerCount(name));
  const before = count();
  onInterrupt(() => undefined).dispose();
  expect(count()).toEqual(before);
});

test("Ctrl-C first stops what it can stop alone, and SIGTERM everything", () => {
  const lines: string[] = [];
  let answers = 1;
  const interrupt = onInterrupt(
    (line) => lines.push(line),
    "nothing is written",
    () => answers-- > 0,
  );
  process.emit("SIGINT", "SIGINT");
  expect([interrupt.signal.aborted, lines]).toEqual([false, []]);
  process.emit("SIGINT", "SIGINT");
  expect(interrupt.signal.aborted).toBe(true);
  interrupt.dispose();

  const other = onInterrupt(
    () => undefined,
    "",
    () => true,
  );
  process.emit("SIGTERM", "SIGTERM");
  expect(other.signal.aborted).toBe(true);
  other.dispose();
});
