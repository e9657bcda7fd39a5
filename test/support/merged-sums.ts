import type { Aggregation, PartialSum } from "../../src/strategy/strategy.ts";

/** The same aggregation, which calls `onMerge` with every partial sum that it takes. */
export function watchSums(aggregation: Aggregation, onMerge: (sum: PartialSum) => void): Aggregation {
  return {
    ...aggregation,
    begin(context) {
      const { partialSums, ...inner } = aggregation.begin(context);
      if (!partialSums) return inner;
      const merge = (sum: PartialSum) => {
        onMerge(sum);
        return partialSums.merge(sum);
      };
      return { ...inner, partialSums: { ...partialSums, merge } };
    },
  };
}
