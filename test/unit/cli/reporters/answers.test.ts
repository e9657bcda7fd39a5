import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import { type AnswerView, answerView, jsonAnswers } from "../../../../src/cli/reporters/answers.ts";
import { hasRoomFor, sideBySide } from "../../../../src/cli/reporters/side-by-side.ts";
import type { Answers, RankAnswer } from "../../../../src/index.ts";
import { screen } from "./screen.ts";

const ESCAPE = "\u001b[2J";

function whole(r: number, said: string, changes: Partial<RankAnswer> = {}): RankAnswer {
  return { r, text: said, tokens: 3, finish: "stop", seconds: 0.25, labels: null, ...changes };
}

const answers: Answers = { form: "chat", byRank: [whole(1, `wind ${ESCAPE} blows`), whole(4, "a warm wind\nof the Alps")] };

function show(view: AnswerView, { byRank, form }: Answers = answers): void {
  for (const { r, text: said } of byRank) for (const piece of said.split(/(?= )/)) view.piece({ r, text: piece });
  view.end({ byRank, form });
}

async function written(use: (stream: PassThrough) => void): Promise<string> {
  const stream = new PassThrough();
  use(stream);
  stream.end();
  return text(stream);
}

test("without a terminal, answers follow one another, and control characters of the model are shown as text", async () => {
  const out = await written((stream) => show(answerView(stream, [1, 4])));
  expect(out).toBe("rank 1\nwind \\u001b[2J blows\n\nrank 4\na warm wind\nof the Alps\n");
});

test("a single rank's answer is written alone", async () => {
  const out = await written((stream) => show(answerView(stream, [4]), { form: "raw", byRank: [whole(4, "a warm wind")] }));
  expect(out).toBe("a warm wind\n");
});

test("an empty answer is told as such, and labels with their probabilities", async () => {
  const labels = [
    { label: "a\nb", probability: 0.75 },
    { label: "c", probability: 0.25 },
  ];
  const byRank = [whole(1, "", { tokens: 0 }), whole(4, "a\nb", { labels })];
  const out = await written((stream) => answerView(stream, [1, 4]).end({ form: "template", byRank }));
  expect(out).toBe("rank 1\n(an empty answer)\n\nrank 4\na\\nb  75.0 %\nc  25.0 %\n");
});

test("as JSON, each piece and each whole answer is a line, without a control character", async () => {
  const out = await written((stream) => show(jsonAnswers(stream), { form: "chat", byRank: [whole(1, `wind ${ESCAPE}`)] }));
  expect(out).not.toContain("\u001b");
  expect(
    out
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as unknown),
  ).toEqual([
    { r: 1, text: "wind" },
    { r: 1, text: ` ${ESCAPE}` },
    { ...whole(1, `wind ${ESCAPE}`), form: "chat" },
  ]);
});

test("a wide terminal has the answers side by side while they grow, and keeps them at the end", async () => {
  const terminal = screen(60, 10);
  const view = answerView(terminal.stdout, [1, 4]);
  view.piece({ r: 1, text: `wind ${ESCAPE}` });
  expect(await terminal.lines()).toEqual([`rank 1${" ".repeat(25)}rank 4`, `${"─".repeat(28)}   ${"─".repeat(28)}`, "wind \\u001b[2J"]);
  view.end(answers);
  expect(await terminal.lines()).toEqual([
    `rank 1  3 tokens, 0.3 s        rank 4  3 tokens, 0.3 s`,
    `${"─".repeat(28)}   ${"─".repeat(28)}`,
    `wind \\u001b[2J blows${" ".repeat(11)}a warm wind`,
    `${" ".repeat(31)}of the Alps`,
  ]);
});

test("an answer longer than the screen is high shows its end while it grows, and is whole at the end", async () => {
  const terminal = screen(60, 8);
  const lines = Array.from({ length: 20 }, (_, line) => `line ${line}`);
  const view = answerView(terminal.stdout, [1, 4]);
  for (const line of lines) view.piece({ r: 1, text: `${line}\n` });
  const growing = await terminal.lines();
  expect(growing.length).toBeLessThanOrEqual(8);
  expect(growing[0]).toMatch(/^rank 1 +rank 4$/);
  expect(growing).toContain("line 19");
  view.end({ form: "raw", byRank: [whole(1, lines.join("\n")), whole(4, "x")] });
  const kept = await terminal.lines();
  for (const line of lines) expect(kept.filter((each) => each.split("   ")[0] === line)).toHaveLength(1);
});

test("an answer that is stopped keeps what there is", async () => {
  const terminal = screen(60, 8);
  const view = answerView(terminal.stdout, [1, 4]);
  view.piece({ r: 1, text: "wind" });
  view.stop();
  terminal.stdout.write("after\n");
  expect((await terminal.lines()).slice(2)).toEqual(["wind", "after"]);
});

test("a narrow terminal has the answers one after the other", async () => {
  expect([58, 59].map((width) => hasRoomFor(2, width))).toEqual([false, true]);
  const terminal = screen(40, 12);
  show(answerView(terminal.stdout, [1, 4]));
  expect(await terminal.lines()).toEqual(["rank 1", "wind \\u001b[2J blows", "", "rank 4", "a warm wind", "of the Alps"]);
});

test("columns are wrapped between words, wide characters take two cells, and tabs four", () => {
  const columns = [
    { head: "a", text: "one two\tthree" },
    { head: "b", text: "焚风焚风焚风" },
  ];
  expect(sideBySide(columns, 23).split("\n")).toEqual([
    "a            b",
    "──────────   ──────────",
    "one two      焚风焚风焚",
    " three       风",
  ]);
});
