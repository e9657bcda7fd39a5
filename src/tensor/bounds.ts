/** Index of the first value that is not a number in [-largest, largest] (NaN is not); -1 if there is none. */
export function firstBeyond(values: Float32Array, largest: number): number {
  for (let index = 0; index < values.length; index++) {
    if (!(Math.abs(values[index] as number) <= largest)) return index;
  }
  return -1;
}
