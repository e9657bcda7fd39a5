import { updateNorm } from "../../adapter/update-norm.ts";
import { RefusedError } from "../../errors.ts";
import { after, inTurns } from "../../base/turns.ts";
import { requireOption } from "../policy.ts";
import type { Aggregation, RoundContext, ServerState, Update } from "../strategy.ts";

export interface UpdateBoundOptions {
  /** How many times the usual norm an update may have; above 1. 3 by default. */
  readonly factor?: number;
}

/**
 * Refuses an update that is larger than its tier's usually are: ‖Δ‖₂, of rows and dense together, above
 *
 *     factor · median of the norms of the tier's updates that earlier rounds took
 *
 * before anything of it counts. A tier's first round has no bound, nor has one whose updates were all zero. The bound holds
 * while most of what a tier had taken was honest; an update that stays below it is taken as it is. Of every tier the norms
 * of its 1,024 latest updates are kept in the server's state.
 */
export function withUpdateBound(aggregation: Aggregation, { factor = 3 }: UpdateBoundOptions = {}): Aggregation {
  requireOption(factor > 1 && factor < Infinity, "updateBound.factor", "above 1", factor);
  const name = aggregation.policy?.name ?? "custom";
  return {
    ...aggregation,
    policy: { ...aggregation.policy, name, updateBound: { factor } },
    begin(context) {
      const { own, others } = divide(context.state);
      const inner = aggregation.begin({ ...context, state: others });
      const { folds } = inner;
      const norms = new Map<string, number>();
      const take = (update: Update, norm: number) => {
        const usual = median(own[stateName(update.r)]);
        // What is not finite is refused by what sees the values.
        if (usual > 0 && norm > factor * usual) {
          const bound = `at most ${factor * usual}, ${factor} times the median of those of rank ${update.r} before it`;
          throw new RefusedError(`the update of client ${update.clientId}: norm`, bound, `${norm}`);
        }
        return after(inner.add(update), () => void norms.set(update.clientId, norm));
      };
      return {
        ...(folds && { folds }),
        add: (update) => after(inTurns(updateNorm(update.delta)), (norm) => take(update, norm)),
        finish: () =>
          after(inner.finish(), (aggregate) => ({ ...aggregate, state: { ...aggregate.state, ...remember(context, own, norms) } })),
      };
    },
  };
}

const PREFIX = "update-norms/r";
const REMEMBERED = 1024;

function stateName(r: number): string {
  return `${PREFIX}${r}`;
}

function divide(state: ServerState): { readonly own: ServerState; readonly others: ServerState } {
  const [own, others] = [true, false].map((isOwn) =>
    Object.fromEntries(Object.entries(state).filter(([name]) => name.startsWith(PREFIX) === isOwn)),
  );
  return { own: own as ServerState, others: others as ServerState };
}

/** The norms of each tier with those of a round, in the order of its clients, whichever came first. */
function remember({ layout, clients }: RoundContext, before: ServerState, norms: ReadonlyMap<string, number>): ServerState {
  const known = layout.tiers.map((r) => {
    const taken = clients.filter((client) => client.r === r).flatMap(({ id }) => norms.get(id) ?? []);
    return [stateName(r), Float32Array.from([...(before[stateName(r)] ?? []), ...taken].slice(-REMEMBERED))] as const;
  });
  return Object.fromEntries(known.filter(([, values]) => values.length > 0));
}

/** 0 of none. */
function median(values: Float32Array = new Float32Array(0)): number {
  const sorted = values.toSorted();
  const middle = (sorted.length - 1) / 2;
  return sorted.length === 0 ? 0 : ((sorted[Math.floor(middle)] as number) + (sorted[Math.ceil(middle)] as number)) / 2;
}
