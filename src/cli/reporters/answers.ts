import { formatPercent, formatSeconds } from "../../report/format.ts";
import { USUAL_WIDTH } from "../../report/text-table.ts";
import { visibleJson, visibleLine, visibleText } from "../../report/visible.ts";
import type { AnswerPiece, Answers, RankAnswer } from "../../server/answer.ts";
import { liveDisplay } from "./live-display.ts";
import { type Paint, paintFor } from "./paint.ts";
import type { OutputStream } from "./reporter.ts";
import { hasRoomFor, sideBySide } from "./side-by-side.ts";

/** Shows one answer. What a model writes is untrusted: its control characters are shown as text. */
export interface AnswerView {
  piece(piece: AnswerPiece): void;
  /** Shows the whole answer. */
  end(answers: Answers): void;
  /** The answer was stopped: what there is stays. */
  stop(): void;
}

/** One JSON object a line: `{r, text}` for a piece, then for each rank its whole answer. */
export function jsonAnswers(stream: NodeJS.WritableStream): AnswerView {
  const write = (value: unknown) => void stream.write(`${visibleJson(value)}\n`);
  return {
    piece: write,
    end: ({ form, byRank }) => {
      for (const answer of byRank) write({ ...answer, form });
    },
    stop: () => undefined,
  };
}

/** Columns where the terminal has room for all ranks, otherwise one answer after the other. */
export function answerView(stream: OutputStream, ranks: readonly number[], errors?: NodeJS.WriteStream): AnswerView {
  const isWide = stream.isTTY === true && ranks.length > 1 && hasRoomFor(ranks.length, stream.columns || USUAL_WIDTH);
  return isWide ? columnView(stream, ranks, errors) : lineView(stream, ranks.length > 1);
}

function lineView(stream: OutputStream, hasHeads: boolean): AnswerView {
  const paint = paintFor(stream);
  const heard = new Set<number>();
  const begin = (r: number) => {
    if (heard.has(r)) return;
    if (hasHeads) stream.write(`${heard.size === 0 ? "" : "\n"}${paint("bold", `rank ${r}`)}\n`);
    heard.add(r);
  };
  let last: number | undefined;
  const newline = () => {
    if (last !== undefined) stream.write("\n");
    last = undefined;
  };
  return {
    piece({ r, text }) {
      if (last !== r) newline();
      begin(r);
      last = r;
      stream.write(visibleText(text));
    },
    end({ byRank }) {
      newline();
      for (const answer of byRank) {
        if (heard.has(answer.r)) continue;
        begin(answer.r);
        stream.write(`${textOf(answer)}\n`);
      }
    },
    stop: newline,
  };
}

function columnView(stream: OutputStream, ranks: readonly number[], errors?: NodeJS.WriteStream): AnswerView {
  const paint = paintFor(stream);
  const display = liveDisplay(stream, errors);
  const texts = new Map(ranks.map((r) => [r, ""]));
  const render = (text: (r: number) => string, head: (r: number) => string) =>
    sideBySide(
      ranks.map((r) => ({ head: head(r), text: text(r) })),
      stream.columns || USUAL_WIDTH,
    );
  const soFar = () =>
    render(
      (r) => visibleText(texts.get(r) ?? ""),
      (r) => paint("bold", `rank ${r}`),
    );
  const stay = (text: string) => {
    // Not a live frame, which is cut to the height of the screen.
    display.clear();
    display.close();
    stream.write(`${text}\n`);
  };
  return {
    piece({ r, text }) {
      texts.set(r, `${texts.get(r) ?? ""}${text}`);
      const whole = soFar();
      display.draw([whole, endOf(whole, stream.rows)]);
    },
    end({ byRank }) {
      const of = new Map(byRank.map((answer) => [answer.r, answer]));
      const answerAt = (r: number) => of.get(r) as RankAnswer;
      stay(
        render(
          (r) => textOf(answerAt(r)),
          (r) => headOf(answerAt(r), paint),
        ),
      );
    },
    stop: () => stay(soFar()),
  };
}

const USUAL_HEIGHT = 24;

/** The lines of a growing answer that fit the screen: its heads, and its last lines. */
function endOf(text: string, rows = USUAL_HEIGHT): string {
  const lines = text.split("\n");
  return [...lines.slice(0, 2), ...lines.slice(2).slice(-Math.max(1, rows - 4))].join("\n");
}

function headOf({ r, tokens, seconds, labels }: RankAnswer, paint: Paint): string {
  const cost = labels || tokens === 0 ? formatSeconds(seconds) : `${tokens} token${tokens === 1 ? "" : "s"}, ${formatSeconds(seconds)}`;
  return `${paint("bold", `rank ${r}`)}  ${paint("dim", cost)}`;
}

function textOf({ text, labels }: RankAnswer): string {
  if (labels) return labels.map(({ label, probability }) => `${visibleLine(label)}  ${formatPercent(probability)}`).join("\n");
  return text === "" ? "(an empty answer)" : visibleText(text);
}
