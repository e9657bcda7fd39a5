import { segments } from "../../adapter/segments.ts";
import { encodingOf } from "../../adapter/encoded-adapter.ts";
import { RefusedError } from "../../errors.ts";
import type { Work } from "../../base/turns.ts";
import type { Aggregate, HeldUpdate, RankedClient, RoundContext, Update } from "../strategy.ts";

/** Which of a round's clients have reported, and what follows from that. Every aggregation needs it. */
export interface Participation {
  /**
   * Counts an update. Throws RefusedError, and does not count it, if it is from a client outside the round, a second one, or does
   * not have the client's rank, number of examples and shape.
   */
  count(update: Update): void;
  /** Clients of rank r or above that reported, in the order of the round's clients; 0 for all that reported. */
  reportedFrom(r: number): readonly RankedClient[];
  /** As `Aggregate` has it: for each tier m, who trained the segment that ends there. */
  coverage(): Aggregate["coverage"];
  /** Segments that at least one client trained but fewer than `least`, as `Aggregate.held` has them. */
  tooFew(least: number): NonNullable<Aggregate["held"]>;
}

/** For accumulators that do not keep the updates. One that does needs only `bufferUpdates`. */
export const participation: (context: RoundContext) => Participation = rollCall;

/** Of accumulators that add an update in turns, or take sums of updates. */
export interface RollCall extends Participation {
  /**
   * Runs `take` and then counts the update. Throws RefusedError for an update from a client outside the round, a second
   * one, or one that does not have the client's shape.
   */
  admit(update: Update, take: Work<void>): Work<void>;
  /** Likewise for updates that were added up elsewhere: all of them count, or none. */
  admitAll(updates: readonly HeldUpdate[], take: Work<void>): Work<void>;
  /** Throws RefusedError for an update that could not be admitted now. */
  requireExpected(update: HeldUpdate): void;
}

export function rollCall({ layout, clients }: RoundContext): RollCall {
  const expected = new Map(clients.map((client) => [client.id, client]));
  /** Clients whose update has arrived; it may still be refused. */
  const present = new Set<string>();
  const reported = new Set<string>();
  const reportedFrom = (r: number) => clients.filter((client) => client.r >= r && reported.has(client.id));
  const requireExpected = ({ clientId, r, n }: Claim, rows = r * layout.width, dense = layout.denseSize) => {
    const client = expected.get(clientId);
    const subject = `the update of client ${clientId}`;
    if (!client) throw new RefusedError(subject, "a client of this round", "another");
    if (present.has(clientId)) throw new RefusedError(subject, "one update", "a second one");
    const claimed = describe(r, n, rows, dense);
    const known = describe(client.r, client.size, client.r * layout.width, layout.denseSize);
    if (claimed !== known) throw new RefusedError(subject, known, claimed);
  };
  function* admitting(ids: readonly string[], take: Work<void>): Work<void> {
    for (const id of ids) present.add(id);
    try {
      yield* take;
      for (const id of ids) reported.add(id);
    } catch (error) {
      for (const id of ids) present.delete(id);
      throw error;
    }
  }
  const requireUpdate = (update: Update) => {
    const { rows, dense } = encodingOf(update.delta);
    requireExpected(update, rows.length, dense.length);
  };
  return {
    count(update) {
      requireUpdate(update);
      present.add(update.clientId);
      reported.add(update.clientId);
    },
    *admit(update, take) {
      requireUpdate(update);
      yield* admitting([update.clientId], take);
    },
    *admitAll(updates, take) {
      for (const update of updates) requireExpected(update);
      const ids = updates.map(({ clientId }) => clientId);
      // Each id is removed when it is seen, so one named twice is missing the second time.
      const unseen = new Set(ids);
      const repeated = ids.find((id) => !unseen.delete(id));
      if (repeated !== undefined) throw new RefusedError(`the update of client ${repeated}`, "one update", "a second one");
      yield* admitting(ids, take);
    },
    requireExpected: (update) => requireExpected(update),
    ...conclusions(layout.tiers, reportedFrom),
  };
}

/** What follows from who reported. */
function conclusions(tiers: readonly number[], reportedFrom: Participation["reportedFrom"]): Omit<Participation, "count"> {
  return {
    reportedFrom,
    coverage: () =>
      segments(tiers).map(({ to }) => {
        const trained = reportedFrom(to);
        return { r: to, clients: trained.length, examples: trained.reduce((sum, { size }) => sum + size, 0) };
      }),
    tooFew(least) {
      const isShort = (r: number) => reportedFrom(r).length > 0 && reportedFrom(r).length < least;
      return [...tiers.filter(isShort), ...(isShort(0) ? (["dense"] as const) : [])];
    },
  };
}

type Claim = Pick<Update, "clientId" | "r" | "n">;

function describe(r: number, n: number, rows: number, dense: number): string {
  return `rank ${r}, n ${n}, ${rows} values in rows and ${dense} in dense`;
}
