import { createHash } from "node:crypto";

/**
 * The only source of randomness: streams derived by SHA-256 from the run's seed and their purpose.
 * `deriveSeed(seed, "round", 3, "client", "c07", "fit")` is 128 bits in hex; the parts are length-prefixed,
 * so that different lists of parts give different streams.
 */
export function deriveSeed(seed: number | string, ...parts: readonly (string | number)[]): string {
  const hash = createHash("sha256");
  for (const part of [seed, ...parts].map(String)) hash.update(`${Buffer.byteLength(part)}:${part}`);
  return hash.digest("hex").slice(0, 32);
}

/** A seeded generator. */
export interface Rng {
  /** Uniform in [0, 1), 32 bits of resolution. */
  next(): number;
  /** A shuffled copy (Fisher–Yates). */
  shuffle<T>(items: readonly T[]): T[];
}

/** sfc32 (Chris Doty-Humphrey, PractRand), seeded with 128 bits. */
export function createRng(seed: string): Rng {
  let [a, b, c, d] = [0, 8, 16, 24].map((start) => Number.parseInt(seed.slice(start, start + 8), 16) | 0) as [
    number,
    number,
    number,
    number,
  ];
  const nextInt = () => {
    const t = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (c << 21) | (c >>> 11);
    c = (c + t) | 0;
    return t >>> 0;
  };
  for (let warmup = 0; warmup < 12; warmup++) nextInt();
  const next = () => nextInt() / 2 ** 32;
  const shuffle = <T>(items: readonly T[]): T[] => {
    const shuffled = [...items];
    for (let last = shuffled.length - 1; last > 0; last--) {
      const other = Math.floor(next() * (last + 1));
      [shuffled[last], shuffled[other]] = [shuffled[other] as T, shuffled[last] as T];
    }
    return shuffled;
  };
  return { next, shuffle };
}
