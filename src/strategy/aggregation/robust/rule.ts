/** Computes a segment's step, robustly: a mean would follow any single client anywhere. */
export interface RobustRule {
  /** Least number of clients for a segment, so that the rule can leave one of them out. */
  readonly atLeast: number;
  /**
   * Indexes of the segment's clients that count; all by default. A block holds every client's values at the same
   * coordinates.
   */
  choose?(blocks: AsyncIterable<readonly Float32Array[]>, clients: number): Promise<readonly number[]>;
  /** A coordinate's step, from the values (which it may sort) and weights of the clients that count. */
  step(values: Float32Array, weights: readonly number[]): number;
}
