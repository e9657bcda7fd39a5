/**
 * Whole numbers close to `quotas` that add up to their rounded sum: each quota's floor, but at least `least`, and one
 * more for the largest remainders (ties go to the first). If `least` raises many, the sum is larger.
 */
export function apportion(quotas: readonly number[], least: number): number[] {
  const counts = quotas.map((quota) => Math.max(least, Math.floor(quota)));
  const missing = Math.round(sum(quotas)) - sum(counts);
  const remainder = (index: number) => (quotas[index] ?? 0) - (counts[index] ?? 0);
  const neediest = quotas.map((_, index) => index).toSorted((a, b) => remainder(b) - remainder(a));
  const raised = new Set(neediest.slice(0, Math.max(0, missing)));
  return counts.map((count, index) => (raised.has(index) ? count + 1 : count));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
