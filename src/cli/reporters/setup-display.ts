import { formatSeconds } from "../../report/format.ts";
import { shorten } from "../../report/mix.ts";
import { USUAL_WIDTH } from "../../report/text-table.ts";
import { visibleLine, visibleText } from "../../report/visible.ts";
import { liveDisplay } from "./live-display.ts";
import type { OutputStream } from "./reporter.ts";

/** Shortest time between lines of progress, if the stream is no terminal. */
const PROGRESS_MS = 10_000;

export interface SetupDisplay {
  say(line: string): void;
  progress(line: string): void;
  /** Safe to call twice. */
  close(): void;
}

export interface SetupDisplayOptions {
  readonly stream: OutputStream & { readonly isTTY?: boolean };
  /** Milliseconds. */
  readonly now?: () => number;
}

/** One line per finished step; in a terminal also the current step and its time, below them. */
export function setupDisplay({ stream, now = () => performance.now() }: SetupDisplayOptions): SetupDisplay {
  const live = stream.isTTY ? liveDisplay(stream) : undefined;
  let since = now();
  let last = since;
  let doing = "";
  const describe = () => `  ${formatSeconds((now() - since) / 1000)}  ${doing}`;
  const show = () => {
    if (doing === "") return;
    if (live) {
      live.draw([shorten(describe(), (stream.columns || USUAL_WIDTH) - 1)]);
    } else if (now() - last >= PROGRESS_MS) {
      last = now();
      stream.write(`${describe()}\n`);
    }
  };
  const ticking = setInterval(show, 1000).unref();
  return {
    say(line) {
      [since, last, doing] = [now(), now(), ""];
      live?.clear();
      stream.write(`${visibleText(line)}\n`);
    },
    progress(line) {
      doing = visibleLine(line.trim());
      show();
    },
    close() {
      clearInterval(ticking);
      live?.clear();
      live?.close();
    },
  };
}
