import type { Adapter } from "../../adapter/adapter.ts";
import { requireWithinBounds } from "../../adapter/update.ts";
import { RunFailedError } from "../../errors.ts";
import { inTurns, type Work } from "../../base/turns.ts";
import type { Accumulator, RoundContext, ServerState, Update } from "../strategy.ts";
import { describeGiven } from "../call-policy.ts";
import { rollCall } from "./participation.ts";

/** A round's outcome. */
export interface Combined extends Pick<Adapter, "rows" | "merged"> {
  /** [R, width], new memory: the next global adapter's. */
  readonly rows: Float32Array;
  /** The next round's `context.state`; none by default. */
  readonly state?: ServerState;
}

/**
 * The accumulator of a method that needs all updates at once: keeps each until the round ends, then combines them, in the order of
 * the round's clients, so that the order of arrival cannot matter. `combine` is called only if a client reported. Refuses updates
 * that do not belong to the round, reports the coverage, and averages `modules_to_save` over all clients that reported,
 * n_k-weighted. A round without reports leaves everything unchanged to the byte, unless `idle` says otherwise. Memory is
 * Σ r_k·width float32 over the clients that reported.
 */
export function bufferUpdates(
  context: RoundContext,
  combine: (updates: readonly Update[]) => Combined,
  idle: () => Combined = () => ({ rows: context.global.rows.slice(), state: context.state }),
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
      const { state = {}, ...combined } = requireRows(updates.length > 0 ? combine(updates) : idle());
      return { global: { ...global, ...combined, dense: meanDense(global.dense, updates) }, coverage: roll.coverage(), state };
    },
  };
}

/** Without `rows`, the last ones would seem to be kept. */
function requireRows(combined: Combined): Combined {
  if ((combined as Partial<Combined> | undefined)?.rows instanceof Float32Array) return combined;
  throw new RunFailedError(
    `combine, as given to bufferUpdates, must return { rows } with a Float32Array, returned ${describeGiven(combined)}`,
  );
}

/** p_k = n_k / Σ n of each update, in their order: its share of the training examples of all of them. */
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
