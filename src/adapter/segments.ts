/** Components [from, to) between two neighbouring tiers; `to` is the tier it is named by. */
export interface Segment {
  readonly from: number;
  readonly to: number;
}

/** The run's segments, lowest first. They come from its tiers alone, never from who happened to report. */
export function segments(tiers: readonly number[]): readonly Segment[] {
  return tiers.map((to, index) => ({ from: tiers[index - 1] ?? 0, to }));
}
