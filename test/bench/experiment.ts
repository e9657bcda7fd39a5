import type { RowSpec, Sample } from "./figures.ts";

/** Things that are measured side by side, and the rows that come of it. */
export interface Experiment {
  readonly name: string;
  /** How often, where that is less than asked for: what takes minutes. */
  readonly atMostRepeats?: number;
  readonly rows: readonly RowSpec[];
  /** One repeat: ours and its peers, one after the other. */
  measure(context: Context, repeat: number): Promise<Sample>;
}

export interface Context {
  /** Python of the workers' environment. */
  readonly python: string;
  /** Python of Flower's. */
  readonly flower: string;
  /** For runs and files; removed at the end. */
  readonly folder: string;
  readonly signal: AbortSignal;
}
