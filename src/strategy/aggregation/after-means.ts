import type { Adapter } from "../../adapter/adapter.ts";
import { after } from "../../base/turns.ts";
import type { Aggregation, RoundContext } from "../strategy.ts";

/** An aggregation whose global adapter is changed after every round in which a client reported. */
export function afterMeans(means: Aggregation, change: (global: Adapter, context: RoundContext) => Adapter): Aggregation {
  return {
    ...means,
    begin(context) {
      const inner = means.begin(context);
      const finish = () =>
        after(inner.finish(), (aggregate) => {
          const isIdle = aggregate.coverage.every(({ clients }) => clients === 0);
          return isIdle ? aggregate : { ...aggregate, global: change(aggregate.global, context) };
        });
      return { ...inner, finish };
    },
  };
}
