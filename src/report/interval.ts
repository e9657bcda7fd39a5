/** The interval of a share; both ends are between 0 and 1. */
export interface ShareInterval {
  readonly low: number;
  readonly high: number;
}

/** 97.5 % quantile of the standard normal distribution. */
const Z = 1.959964;

/**
 * 95 % interval of a share that was measured on n independent examples: Wilson's score interval, without correction for
 * continuity (E. B. Wilson, JASA 22, 1927, p. 209; method 3 of R. G. Newcombe, Statistics in Medicine 17, 1998, p. 857).
 * Unlike p ± z·√(p(1 − p)/n) it stays within 0 and 1, and is not empty at either. Null without examples.
 */
export function wilsonInterval(share: number, n: number): ShareInterval | null {
  if (n === 0) return null;
  const shrink = 1 + Z ** 2 / n;
  const center = (share + Z ** 2 / (2 * n)) / shrink;
  const half = (Z / shrink) * Math.sqrt((share * (1 - share)) / n + Z ** 2 / (4 * n ** 2));
  return { low: Math.max(0, center - half), high: Math.min(1, center + half) };
}
