import { updateNorm } from "../../adapter/update-norm.ts";
import { RefusedError } from "../../errors.ts";
import { after, inTurns } from "../../base/turns.ts";
import { requireOption } from "../policy.ts";
import type { Aggregation, HeldUpdate, PartialSum, RoundContext, ServerState, Update } from "../strategy.ts";
import { heldNorm } from "./held-norm.ts";

export interface UpdateBoundOptions {
  /** How many times the usual norm an update may have; above 1. 3 by default. */
  readonly factor?: number;
}

/**
 * Refuses an update that is unusually large for its tier: ‖Δ‖₂, of rows and dense together, above
 *
 *     factor · median of the norms of the tier's updates that earlier rounds accepted
 *
 * before the aggregation sees it. There is no bound in a tier's first round, or while all its updates were zero. The bound
 * is useful while most updates accepted from a tier were honest; smaller updates are accepted unchanged. The server's state
 * keeps the norms of each tier's latest 1,024 updates.
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
      const { folds, partialSums } = inner;
      const norms = new Map<string, number>();
      const requireUsual = ({ clientId, r }: Pick<Update, "clientId" | "r">, norm: number) => {
        const usual = median(own[stateName(r)]);
        // Values that are not finite are refused by the aggregation, which says where they are.
        if (usual > 0 && norm > factor * usual) {
          const bound = `at most ${factor * usual}, ${factor} times the median of earlier updates of rank ${r}`;
          throw new RefusedError(`the update of client ${clientId}: norm`, bound, `${norm}`);
        }
      };
      const take = (update: Update, norm: number) => {
        requireUsual(update, norm);
        return after(inner.add(update), () => void norms.set(update.clientId, norm));
      };
      const bounded = partialSums && {
        ...partialSums,
        needsNorm: true,
        weigh(update: HeldUpdate) {
          requireUsual(update, heldNorm(update));
          return partialSums.weigh(update);
        },
        merge: (sum: PartialSum) =>
          after(partialSums.merge(sum), () => {
            for (const update of sum.members) norms.set(update.clientId, heldNorm(update));
          }),
      };
      return {
        ...(folds && { folds }),
        ...(bounded && { partialSums: bounded }),
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

/** The norms of each tier followed by this round's, in the order of its clients, not of arrival. */
function remember({ layout, clients }: RoundContext, before: ServerState, norms: ReadonlyMap<string, number>): ServerState {
  const known = layout.tiers.map((r) => {
    const taken = clients.filter((client) => client.r === r).flatMap(({ id }) => norms.get(id) ?? []);
    return [stateName(r), Float32Array.from([...(before[stateName(r)] ?? []), ...taken].slice(-REMEMBERED))] as const;
  });
  return Object.fromEntries(known.filter(([, values]) => values.length > 0));
}

/** 0 without values. */
function median(values: Float32Array = new Float32Array(0)): number {
  const sorted = values.toSorted();
  const middle = (sorted.length - 1) / 2;
  return sorted.length === 0 ? 0 : ((sorted[Math.floor(middle)] as number) + (sorted[Math.ceil(middle)] as number)) / 2;
}
