import { expect, it } from "vitest";
import { html, trusted } from "../../../src/report/markup.ts";
import { visibleIn, visibleJson, visibleLine, visibleText } from "../../../src/report/visible.ts";

it.each([
  ["\u001B[31mred\u001B[0m", "\\u001b[31mred\\u001b[0m"],
  ["a\nb\r\nc\td", "a\\nb\\r\\nc\\td"],
  ["\u009B2J\u0085\u007F\u0000\b", "\\u009b2J\\u0085\\u007f\\u0000\\u0008"],
  ["\u202Egnp.exe\u2066\u200F", "\\u202egnp.exe\\u2066\\u200f"],
  ["a\u2028b\u2029c", "a\\u2028b\\u2029c"],
  ["\uD800 alone", "\\ud800 alone"],
  // Letters, accents, joined emoji and backslashes are text.
  ["Zoë 犬 👩‍🚀 C:\\new", "Zoë 犬 👩‍🚀 C:\\new"],
])("%j becomes the one line %s", (text, shown) => {
  expect(visibleLine(text)).toBe(shown);
  expect(visibleLine(shown)).toBe(shown);
});

it("text of several lines keeps its newlines and tabs", () => {
  expect(visibleText("one\r\n\ttwo\rthree\u001B[A\n")).toBe("one\n\ttwo\\rthree\\u001b[A\n");
});

it("every string and key of a value is escaped onto one line, except the lines of an error", () => {
  const value = { id: "a\u001Bb\n", list: [["\n", 1, null, true]], error: "one\ntwo\u001B", "k\u001B": undefined };
  expect(visibleIn(value)).toEqual({ id: "a\\u001bb\\n", list: [["\\n", 1, null, true]], error: "one\ntwo\\u001b", "k\\u001b": undefined });
});

it("JSON for a terminal parses to the same value", () => {
  const value = { text: "\u009B2J\u202E\u001B\uD800\u2028\n" };
  expect(visibleJson(value)).toMatch(/^[\u0020-\u007E]*$/);
  expect(JSON.parse(visibleJson(value))).toEqual(value);
});

it("a page and its pictures contain no control characters", () => {
  expect(html`<p>${"\u001B<b>\u202E"}</p>`.markup).toBe("<p>\\u001b&#60;b&#62;\\u202e</p>");
  expect(trusted("<text>\u0001</text>").markup).toBe("<text>\\u0001</text>");
});
