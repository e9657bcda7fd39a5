import type { Adapter } from "../../adapter/adapter.ts";
import { requireWithinBounds } from "../../adapter/update.ts";
import { inTurns, type Work } from "../../base/turns.ts";
import type { Accumulator, RoundContext, Update } from "../strategy.ts";
import { rollCall } from "./participation.ts";

/** A round's outcome: rows at rank R, and the merged components if they change. */
export type Combined = Pick<Adapter, "rows" | "merged">;

/**
 * For methods that need all updates at once: keeps each until the round ends, then combines them in the order of the
 * round's clients, so that the order of arrival cannot matter. `modules_to_save` are averaged over all clients that
 * reported, n_k-weighted. A round without reports leaves them, and by default everything else, unchanged to the byte.
 * Memory is Σ r_k·width float32 over the clients that reported.
 */
export function gather(
  context: RoundContext,
  combine: (updates: readonly Update[]) => Combined,
  idle: () => Combined = () => ({ rows: context.global.rows.slice() }),
): Accumulator {
  const { global } = context;
  const roll = rollCall(context);
  const kept = new Map<string, Update>();
  function* keep(update: Update): Work<void> {
    yield* requireWithinBounds(update.clientId, update.delta);
    kept.set(update.clientId, update);
  }
  return {
    add: (update) => inTurns(roll.admit(update, keep(update))),
    finish() {
      const updates = roll.reportedFrom(0).flatMap(({ id }) => kept.get(id) ?? []);
      const combined = updates.length > 0 ? combine(updates) : idle();
      return { global: { ...global, ...combined, dense: meanDense(global.dense, updates) }, coverage: roll.coverage() };
    },
  };
}

/** n_k / Σ n, in the order of the updates. */
export function shares(updates: readonly Update[]): readonly number[] {
  const total = updates.reduce((sum, { n }) => sum + n, 0);
  return updates.map(({ n }) => n / total);
}

function meanDense(previous: Float32Array, updates: readonly Update[]): Float32Array {
  const p = shares(updates);
  return previous.map((value, index) => {
    const step = updates.reduce((sum, { delta }, k) => sum + (p[k] as number) * (delta.dense[index] as number), 0);
    // -0 + 0 would be +0.
    return step === 0 ? value : value + step;
  });
}
