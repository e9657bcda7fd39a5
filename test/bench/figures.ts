/** The measurements of one repeat, by name. */
export type Sample = Readonly<Record<string, number>>;

/** A row of the table: one of our figures against another of the same repeat. */
export interface RowSpec {
  readonly name: string;
  readonly unit: string;
  /** Names in the sample. */
  readonly ours: string;
  /** A figure of the same repeat, or a limit. */
  readonly peer: string | { readonly limit: number };
  /** Target for ours ÷ peer; none if the row is only informative. */
  readonly target?: { readonly atMost: number } | { readonly atLeast: number };
}

export interface Row {
  readonly name: string;
  readonly unit: string;
  readonly ours: number;
  readonly peer: number;
  readonly peerName: string;
  /** Median over the repeats of ours ÷ peer within one repeat. */
  readonly ratio: number;
  /** Least and largest of those. */
  readonly spread: readonly [number, number];
  readonly repeats: number;
  readonly target: string | null;
  readonly met: boolean | null;
}

/** Summarises a row over the repeats of its experiment. */
export function summarise({ name, unit, ours, peer, target }: RowSpec, samples: readonly Sample[]): Row {
  const figure = (sample: Sample, key: string) => {
    const value = sample[key];
    if (value === undefined || !Number.isFinite(value)) throw new Error(`${name}: ${key} was not measured: ${value}`);
    return value;
  };
  const peerOf = (sample: Sample) => (typeof peer === "string" ? figure(sample, peer) : peer.limit);
  const ratios = samples.map((sample) => figure(sample, ours) / peerOf(sample));
  const ratio = median(ratios);
  return {
    name,
    unit,
    ours: median(samples.map((sample) => figure(sample, ours))),
    peer: median(samples.map(peerOf)),
    peerName: typeof peer === "string" ? peer : "limit",
    ratio,
    spread: [Math.min(...ratios), Math.max(...ratios)],
    repeats: samples.length,
    target: target === undefined ? null : "atMost" in target ? `≤ ${target.atMost}` : `≥ ${target.atLeast}`,
    met: target === undefined ? null : "atMost" in target ? ratio <= target.atMost : ratio >= target.atLeast,
  };
}

export function median(values: readonly number[]): number {
  if (values.length === 0) throw new Error("the median of nothing");
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? (sorted[middle] as number) : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}
