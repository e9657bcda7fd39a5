/** What a segment's step is made of, where a mean would follow any client anywhere. */
export interface RobustRule {
  /** Clients that a segment needs, so that the rule can do without one of them. */
  readonly atLeast: number;
  /**
   * Which of the segment's clients count, by place; all by default. A block holds the values of each at the same
   * coordinates.
   */
  choose?(blocks: AsyncIterable<readonly Float32Array[]>, clients: number): Promise<readonly number[]>;
  /** The step of a coordinate, of the values (it may sort them) and the weights of the clients that count. */
  step(values: Float32Array, weights: readonly number[]): number;
}
