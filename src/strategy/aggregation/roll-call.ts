import { segments } from "../../adapter/segments.ts";
import { RefusedError } from "../../errors.ts";
import type { Aggregate, RankedClient, RoundContext, Update } from "../strategy.ts";

/** Who has reported in a round, of those who may. Every aggregation needs it, whatever it does with the values. */
export interface RollCall {
  /** Throws RefusedError for an update that may not count: of a stranger, a second one, or not of the client's shape. */
  require(update: Update): void;
  /** Call once the update has been taken. */
  tick(update: Update): void;
  /** Those who reported at rank r or above, in the order of the round's clients. */
  reportedFrom(r: number): readonly RankedClient[];
  coverage(): Aggregate["coverage"];
}

export function rollCall({ layout, clients }: RoundContext): RollCall {
  const expected = new Map(clients.map((client) => [client.id, client]));
  const reported = new Set<string>();
  const reportedFrom = (r: number) => clients.filter((client) => client.r >= r && reported.has(client.id));
  return {
    require({ clientId, r, n, delta }) {
      const client = expected.get(clientId);
      const subject = `the update of client ${clientId}`;
      if (!client) throw new RefusedError(subject, "a client of this round", "another");
      if (reported.has(clientId)) throw new RefusedError(subject, "one update", "a second one");
      const claimed = describe(r, n, delta.rows.length, delta.dense.length);
      const known = describe(client.r, client.size, client.r * layout.width, layout.denseSize);
      if (claimed !== known) throw new RefusedError(subject, known, claimed);
    },
    tick: ({ clientId }) => void reported.add(clientId),
    reportedFrom,
    coverage: () =>
      segments(layout.tiers).map(({ to }) => {
        const trained = reportedFrom(to);
        return { r: to, clients: trained.length, examples: trained.reduce((sum, { size }) => sum + size, 0) };
      }),
  };
}

function describe(r: number, n: number, rows: number, dense: number): string {
  return `rank ${r}, n ${n}, ${rows} values in rows and ${dense} in dense`;
}
