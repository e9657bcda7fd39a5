import { requireOption } from "../../policy.ts";
import type { RobustRule } from "./rule.ts";

export interface MultiKrumOptions {
  /** f: how many of a segment's clients may be malicious. */
  readonly malicious: number;
  /** m: how many of a segment's clients are averaged; 1 is Krum. At most K − f, the default. */
  readonly keep?: number | undefined;
}

/**
 * Multi-Krum (Blanchard et al. 2017, https://arxiv.org/abs/1703.02757): of a segment's K clients, each is scored by how far
 * it is from the K − f − 2 nearest to it (Section 4),
 *
 *     s(i) = Σ_{i→j} ‖Δ_i − Δ_j‖²
 *
 * and the m with the lowest scores are averaged (Section 6), w_k-weighted here. Needs 2f + 2 < K. Distances take K²/2
 * operations a value.
 */
export function multiKrum({ malicious, keep = Infinity }: MultiKrumOptions): RobustRule {
  const isCount = (value: number) => Number.isSafeInteger(value) && value >= 1;
  requireOption(isCount(malicious), "robust.malicious", "a whole number from 1", malicious);
  requireOption(keep === Infinity || isCount(keep), "robust.keep", "a whole number from 1", keep);
  return {
    atLeast: 2 * malicious + 3,
    async choose(blocks, clients) {
      const distances = await squaredDistances(blocks, clients);
      const scores = distances.map((row, index) => {
        const others = row.filter((_, other) => other !== index).toSorted();
        return others.slice(0, clients - malicious - 2).reduce((sum, distance) => sum + distance, 0);
      });
      const byScore = [...scores.keys()].toSorted((a, b) => (scores[a] as number) - (scores[b] as number));
      return byScore.slice(0, Math.min(keep, clients - malicious)).toSorted((a, b) => a - b);
    },
    step(values, weights) {
      let [sum, total] = [0, 0];
      for (const [index, weight] of weights.entries()) {
        sum += weight * (values[index] as number);
        total += weight;
      }
      return sum / total;
    },
  };
}

/** ‖Δ_i − Δ_j‖², row by row. */
async function squaredDistances(blocks: AsyncIterable<readonly Float32Array[]>, clients: number): Promise<readonly Float64Array[]> {
  const rows = Array.from({ length: clients }, () => new Float64Array(clients));
  for await (const block of blocks) {
    for (const [i, delta] of block.entries()) {
      for (let j = 0; j < i; j++) {
        const distance = squaredDistance(delta, block[j] as Float32Array);
        for (const [row, column] of [[i, j] as const, [j, i] as const]) {
          const values = rows[row] as Float64Array;
          values[column] = (values[column] as number) + distance;
        }
      }
    }
  }
  return rows;
}

function squaredDistance(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let index = 0; index < a.length; index++) sum += ((a[index] as number) - (b[index] as number)) ** 2;
  return sum;
}
