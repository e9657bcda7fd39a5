import { expect, it } from "vitest";
import { liveDisplay } from "../../../../src/cli/reporters/live-display.ts";
import { screen } from "./screen.ts";

it("a line inserted into a frame moves the lines below it down", async () => {
  const terminal = screen(40, 10);
  const display = liveDisplay(terminal.stdout);
  display.stay("before");
  display.draw(["head\na\nrule"]);
  display.draw(["head\na\nb\nc\nrule"]);
  display.stay("between");
  display.draw(["head\na\nb\nc\nd\nrule"]);
  display.close();
  expect(await terminal.lines()).toEqual(["before", "between", "head", "a", "b", "c", "d", "rule"]);
});

it("permanent text is complete even if it is longer than the screen is high", async () => {
  const terminal = screen(20, 5);
  const display = liveDisplay(terminal.stdout);
  const lines = Array.from({ length: 12 }, (_, line) => `line ${line}`);
  display.draw(["frame"]);
  display.stay(lines.join("\n"));
  display.draw(["frame 2"]);
  display.close();
  expect(await terminal.lines()).toEqual([...lines, "frame 2"]);
});

it("writes to the error stream go above the frame until the display is closed", async () => {
  const terminal = screen(40, 10);
  const { write } = terminal.stderr;
  const display = liveDisplay(terminal.stdout, terminal.stderr);
  display.draw(["one\ntwo"]);
  terminal.stderr.write("(node:1) Warning: mind this\n");
  display.draw(["one\nthree"]);
  display.close();
  display.close();
  expect(terminal.stderr.write).toBe(write);
  terminal.stderr.write("after\n");
  expect(await terminal.lines()).toEqual(["(node:1) Warning: mind this", "one", "three", "after"]);
});

it("the first frame that fits is shown, and long lines wrap between words", async () => {
  const terminal = screen(16, 5);
  const display = liveDisplay(terminal.stdout);
  display.draw(["1\n2\n3\n4\n5", "a long first line\n2\n3", "never"]);
  display.close();
  expect(await terminal.lines()).toEqual(["a long first", "line", "2", "3"]);
});

it("resizing the terminal loses no permanent text", async () => {
  const terminal = screen(60, 12);
  const display = liveDisplay(terminal.stdout);
  for (const [index, columns] of [60, 25, 80, 33, 60].entries()) {
    terminal.resize(columns, 12);
    display.stay(`stays ${index}`);
    display.draw([`a frame whose first line is rather long, number ${index}\nsecond`]);
    await terminal.lines();
  }
  display.close();
  const lines = await terminal.lines();
  expect(lines.filter((line) => line.startsWith("stays"))).toEqual([0, 1, 2, 3, 4].map((index) => `stays ${index}`));
  expect(lines.at(-1)).toBe("second");
});
