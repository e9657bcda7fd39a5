import type { RowSpec, Sample } from "./figures.ts";

/** Measurements taken side by side, and the rows they give. */
export interface Experiment {
  readonly name: string;
  /** Upper bound on the repeats, for experiments that take minutes. */
  readonly atMostRepeats?: number;
  /** What not every machine has; without it, the experiment is skipped. */
  readonly needs?: { readonly what: string; isThere(): boolean };
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
