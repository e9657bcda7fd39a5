import type { RoundRow, RunDetail } from "../messages.ts";

/** A chart of one run. It takes all rounds and draws what they have. */
export interface Figure {
  readonly root: HTMLElement;
  update(rows: readonly RoundRow[], detail: RunDetail): void;
  close(): void;
}
