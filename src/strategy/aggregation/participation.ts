import { segments } from "../../adapter/segments.ts";
import { encodingOf } from "../../adapter/encoded-adapter.ts";
import { RefusedError } from "../../errors.ts";
import type { Work } from "../../base/turns.ts";
import type { Aggregate, RankedClient, RoundContext, Update } from "../strategy.ts";

/** Which of a round's clients have reported. Every aggregation needs it. */
export interface RollCall {
  /**
   * Runs `take` and then counts the update. Throws RefusedError for an update from a client outside the round, a second
   * one, or one that does not have the client's shape.
   */
  admit(update: Update, take: Work<void>): Work<void>;
  /** Clients of rank r or above that reported, in the order of the round's clients. */
  reportedFrom(r: number): readonly RankedClient[];
  coverage(): Aggregate["coverage"];
  /** Segments that at least one client trained but fewer than `least`. */
  tooFew(least: number): NonNullable<Aggregate["held"]>;
}

export function rollCall({ layout, clients }: RoundContext): RollCall {
  const expected = new Map(clients.map((client) => [client.id, client]));
  /** Clients whose update has arrived; it may still be refused. */
  const present = new Set<string>();
  const reported = new Set<string>();
  const reportedFrom = (r: number) => clients.filter((client) => client.r >= r && reported.has(client.id));
  const requireExpected = ({ clientId, r, n, delta }: Update) => {
    const client = expected.get(clientId);
    const subject = `the update of client ${clientId}`;
    if (!client) throw new RefusedError(subject, "a client of this round", "another");
    if (present.has(clientId)) throw new RefusedError(subject, "one update", "a second one");
    const { rows, dense } = encodingOf(delta);
    const claimed = describe(r, n, rows.length, dense.length);
    const known = describe(client.r, client.size, client.r * layout.width, layout.denseSize);
    if (claimed !== known) throw new RefusedError(subject, known, claimed);
  };
  return {
    *admit(update, take) {
      requireExpected(update);
      present.add(update.clientId);
      try {
        yield* take;
        reported.add(update.clientId);
      } catch (error) {
        present.delete(update.clientId);
        throw error;
      }
    },
    reportedFrom,
    coverage: () =>
      segments(layout.tiers).map(({ to }) => {
        const trained = reportedFrom(to);
        return { r: to, clients: trained.length, examples: trained.reduce((sum, { size }) => sum + size, 0) };
      }),
    tooFew(least) {
      const isShort = (r: number) => reportedFrom(r).length > 0 && reportedFrom(r).length < least;
      return [...layout.tiers.filter(isShort), ...(isShort(0) ? (["dense"] as const) : [])];
    },
  };
}

function describe(r: number, n: number, rows: number, dense: number): string {
  return `rank ${r}, n ${n}, ${rows} values in rows and ${dense} in dense`;
}
