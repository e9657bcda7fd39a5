/** Components [from, to) between two neighbouring tiers, named by the tier `to`. */
export interface Segment {
  readonly from: number;
  readonly to: number;
}

/** The run's segments, lowest first. They depend only on its tiers, never on which clients report. */
export function segments(tiers: readonly number[]): readonly Segment[] {
  return tiers.map((to, index) => ({ from: tiers[index - 1] ?? 0, to }));
}
