import type { Adapter } from "../adapter/adapter.ts";
import { initialAdapter } from "../adapter/initialise.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import { createDownlink } from "../adapter/encoded-adapter.ts";
import { requireWithinBounds, validateClaim, validateUpdate } from "../adapter/update.ts";
import type { RunConfig } from "../config/schema.ts";
import { RunFailedError } from "../errors.ts";
import { callPolicy, describeGiven, namePolicy } from "../strategy/call-policy.ts";
import type { Aggregate, HeldUpdate, PartialSums, RankAssigner, RankedClient, ServerState, Update } from "../strategy/strategy.ts";
import type { EncodedIntegers } from "../tensor/integers.ts";
import type { WorkerMessageOf } from "../protocol/messages.ts";
import type { ArrivedSum } from "../records/sum-file.ts";
import { createRng, deriveSeed } from "../base/rng.ts";
import { inTurns } from "../base/turns.ts";
import type { Reply } from "../workers/task.ts";
import { sentForFit } from "../strategy/sent-for-fit.ts";
import {
  distributeTo,
  requireAccumulator,
  requireAggregate,
  requirePartialSums,
  requireWeight,
} from "../strategy/validate-policy-output.ts";
import type { StoredFit } from "../records/update-file.ts";
import { WIRE_DTYPES } from "../config/wire-specs.ts";

/** What a round's aggregation starts from. */
export interface Opening {
  readonly round: number;
  readonly config: RunConfig;
  readonly layout: AdapterLayout;
  readonly global: Adapter;
  readonly state: ServerState;
  /** Clients of this round, in index order. */
  readonly selected: readonly RankedClient[];
}

/** The result of a round's aggregation. */
export interface Aggregated extends Aggregate {
  /** Ranks that the strategy's rank assignment has changed, by client id. */
  readonly revised: ReadonlyMap<string, number>;
}

/** A round's aggregation in progress: what each client receives, and how its update is added. */
export interface OpenRound {
  received(client: RankedClient): Adapter;
  /**
   * Checks an update and adds it, while `keep` writes it to disk. Throws a RefusedError for an invalid update, which leaves the sum
   * unchanged. Returns whether the payload is no longer needed.
   */
  take(
    client: RankedClient,
    answer: Pick<Reply<"fit">, "message" | "payload">,
    keep: () => Promise<StoredFit | undefined>,
  ): Promise<boolean>;
  /** How workers add up updates; absent unless `partialSums` is set. */
  readonly partialSums?: Pick<PartialSums, "resolution" | "largestValue" | "needsNorm"> | undefined;
  /** The weight of an update that its worker holds. Throws a RefusedError for an invalid one. */
  weigh(client: RankedClient, message: Fitted): number;
  /** Adds a partial sum of these clients' updates, or throws a RefusedError and leaves the sum unchanged. */
  merge(clients: readonly RankedClient[], sum: Pick<ArrivedSum, "fits" | "payload">): Promise<void>;
  finish(): Promise<Aggregated>;
}

type Fitted = WorkerMessageOf<"fitted">;

export function openRound({ round, config, layout, global, state, selected }: Opening): OpenRound {
  const { aggregation, rankAssignment } = config.strategy;
  const fresh = () => initialAdapter(layout, global.dense, deriveSeed(config.seed, "round", round, "adapter")).rows;
  const rng = (purpose: string) => createRng(deriveSeed(config.seed, "round", round, "aggregation", purpose));
  const name = namePolicy("aggregation", aggregation);
  const accumulator = callPolicy(`${name}'s begin() of round ${round}`, () =>
    aggregation.begin({ round, layout, global, state, clients: selected, fresh, rng }),
  );
  requireAccumulator(`${name}'s begin() of round ${round}`, accumulator);
  const partialSums = config.partialSums ? requirePartialSums(`${name}'s begin() of round ${round}`, accumulator) : undefined;
  const revised = new Map<string, number>();
  const received = downlinks({ config, layout, global, state });
  return {
    received,
    async take(client, { message, payload }, keep) {
      const known = { id: client.id, r: client.r, n: client.size };
      const delta = validateUpdate({ layout, client: known, reply: message, payload });
      const keeping = keep();
      // Awaited below, once the update has been added; avoids an unhandled rejection meanwhile.
      keeping.catch(() => {});
      try {
        // Check bounds before anyone else reads NaN or Infinity.
        if (!accumulator.folds || rankAssignment.revise) await inTurns(requireWithinBounds(client.id, delta));
        const spooled = aggregation.readsSpool ? await keeping : undefined;
        const update: Update = { clientId: client.id, r: client.r, n: client.size, delta, received: received(client), spooled };
        const next = revisedRank(rankAssignment, client, update, layout);
        await callPolicy(`${name}'s add() of client ${client.id} in round ${round}`, () => accumulator.add(update));
        if (next !== client.r) revised.set(client.id, next);
        await keeping;
      } catch (error) {
        const kept = await keeping.catch(() => undefined);
        kept?.drop();
        throw error;
      }
      return accumulator.folds ?? false;
    },
    partialSums,
    weigh(client, message) {
      validateClaim({ layout, client: { id: client.id, r: client.r, n: client.size }, reply: message });
      const subject = `${name}'s weigh() of client ${client.id} in round ${round}`;
      return requireWeight(
        subject,
        callPolicy(subject, () => partialSums?.weigh(heldUpdate(client, message))),
      );
    },
    async merge(clients, { fits, payload: { rows = NO_INTEGERS, dense = NO_INTEGERS } }) {
      const members = clients.map((client, index) => heldUpdate(client, fits[index] as Fitted));
      await callPolicy(`${name}'s merge() in round ${round}`, () => partialSums?.merge({ members, rows, dense }));
    },
    async finish() {
      const subject = `${name}'s finish() of round ${round}`;
      const aggregate = await callPolicy(subject, () => accumulator.finish());
      await inTurns(requireAggregate(subject, aggregate, layout));
      return { ...aggregate, revised };
    },
  };
}

/** What a client receives: made once for all of a rank, or once for each client, and kept until the round ends. */
function downlinks({ config, layout, global, state }: Omit<Opening, "round" | "selected">): OpenRound["received"] {
  const { aggregation } = config.strategy;
  const downlink = createDownlink(WIRE_DTYPES[config.wire.downlink]);
  const startOf = ({ r }: RankedClient) => sentForFit(aggregation, config.fit.actingTail, global, layout, r);
  const made = new Map<number | string, Adapter>();
  return (client) => {
    const key = aggregation.distributeTo ? client.id : client.r;
    const adapter = made.get(key) ?? downlink(distributeTo(aggregation, client, { global, layout, state }) ?? startOf(client));
    made.set(key, adapter);
    return adapter;
  };
}

const NO_INTEGERS: EncodedIntegers = { dtype: "F64", length: 0, bytes: new Uint8Array(0) };

function heldUpdate({ id, r, size }: RankedClient, { norm }: Fitted): HeldUpdate {
  return { clientId: id, r, n: size, norm };
}

/** The rank that a client continues with after its fit. */
function revisedRank(assigner: RankAssigner, client: RankedClient, update: Update, layout: AdapterLayout): number {
  if (!assigner.revise) return client.r;
  const subject = `${namePolicy("rank assignment", assigner)}'s revise() of client ${client.id}`;
  const r = callPolicy(subject, () => assigner.revise?.(client, update, layout)) ?? client.r;
  if (layout.tiers.includes(r)) return r;
  throw new RunFailedError(`${subject} must return one of the tiers [${layout.tiers.join(", ")}], returned ${describeGiven(r)}`);
}
