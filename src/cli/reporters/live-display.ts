import { createLogUpdate } from "log-update";
import wrapAnsi from "wrap-ansi";
import { USUAL_WIDTH, wrapProse } from "../../report/text-table.ts";
import type { OutputStream } from "./reporter.ts";

const USUAL_HEIGHT = 24;

/** A frame at the bottom of a terminal, drawn anew at each change; other text goes above it and stays. */
export interface LiveDisplay {
  /** Shows the first of these frames, from the fullest to the barest, that fits the screen; the last where none does. */
  draw(frames: Iterable<string>): void;
  /** Writes lines above the frame. */
  stay(text: string): void;
  /** Takes the frame away. */
  clear(): void;
  /** Leaves the frame. Safe to call twice. */
  close(): void;
}

/** `errors` may show on the same terminal: what anyone writes to it until `close` goes above the frame, too. */
export function liveDisplay(stream: OutputStream, errors?: NodeJS.WriteStream): LiveDisplay {
  const display = createLogUpdate(stream);
  let frame = "";
  let isDrawing = false;
  let isClosed = false;
  const whileDrawing = (change: () => void) => {
    isDrawing = true;
    change();
    isDrawing = false;
  };
  // Always whole: log-update 7 patches only the lines that differ, and loses some where lines are put in between.
  const draw = (text: string) =>
    whileDrawing(() => {
      display.clear();
      display(text);
      frame = text;
    });
  const stay = (write: () => void) => {
    whileDrawing(() => display.clear());
    write();
    if (frame !== "") draw(frame);
  };
  const release = errors?.isTTY ? takeOver(errors, (write) => (isDrawing ? write() : stay(write))) : undefined;
  return {
    draw(frames) {
      const width = stream.columns ?? USUAL_WIDTH;
      // The cursor stands on a line of its own below.
      const height = (stream.rows ?? USUAL_HEIGHT) - 1;
      let wrapped = "";
      for (const each of frames) {
        wrapped = wrapAnsi(each, width, { hard: true, trim: false });
        if (wrapped.split("\n").length <= height) break;
      }
      draw(wrapped);
    },
    stay: (text) => stay(() => void stream.write(`${wrapProse(text, stream.columns ?? USUAL_WIDTH)}\n`)),
    clear: () => whileDrawing(() => display.clear()),
    close() {
      if (isClosed) return;
      isClosed = true;
      whileDrawing(() => display.done());
      release?.();
    },
  };
}

/** Has every write to a stream go through `around`, until what is returned is called. */
function takeOver(stream: NodeJS.WriteStream, around: (write: () => void) => void): () => void {
  const { write } = stream;
  const through = (...given: Parameters<typeof write>) => {
    let isFlushed = true;
    around(() => {
      isFlushed = write.apply(stream, given);
    });
    return isFlushed;
  };
  stream.write = through as typeof write;
  return () => {
    stream.write = write;
  };
}
