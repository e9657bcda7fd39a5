import { createLogUpdate } from "log-update";
import wrapAnsi from "wrap-ansi";
import { USUAL_WIDTH, wrapProse } from "../../report/text-table.ts";
import type { OutputStream } from "./reporter.ts";

const USUAL_HEIGHT = 24;

/** A frame at the bottom of a terminal, redrawn at each change; other text goes above it and stays. */
export interface LiveDisplay {
  /** Shows the first frame that fits the screen, or the last if none does. */
  draw(frames: Iterable<string>): void;
  /** Writes lines above the frame. */
  stay(text: string): void;
  /** Removes the frame. */
  clear(): void;
  /** Keeps the frame on the screen. Safe to call twice. */
  close(): void;
}

/** Until `close`, whatever is written to `errors`, which may be the same terminal, also goes above the frame. */
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
  // Redrawn completely: log-update 7 patches only lines that differ, and loses some when lines are inserted.
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
      const width = stream.columns || USUAL_WIDTH;
      // The cursor needs a line below the frame.
      const height = (stream.rows ?? USUAL_HEIGHT) - 1;
      let wrapped = "";
      for (const each of frames) {
        wrapped = wrapAnsi(each, width, { hard: true, trim: false });
        if (wrapped.split("\n").length <= height) break;
      }
      draw(wrapped);
    },
    stay: (text) => stay(() => void stream.write(`${wrapProse(text, stream.columns || USUAL_WIDTH)}\n`)),
    clear: () => whileDrawing(() => display.clear()),
    close() {
      if (isClosed) return;
      isClosed = true;
      whileDrawing(() => display.done());
      release?.();
    },
  };
}

/** Routes every write to a stream through `around`, until the returned function is called. */
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
