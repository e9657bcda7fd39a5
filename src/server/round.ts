import { once, setMaxListeners } from "node:events";
import type { Adapter } from "../adapter/adapter.ts";
import { createDownlink, encodingOf } from "../adapter/travel.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import { requireWithinBounds, validateUpdate } from "../adapter/update.ts";
import type { RunConfig } from "../config/schema.ts";
import { InterruptedError, PrelortError, RunFailedError, WorkerError } from "../errors.ts";
import { initialAdapter } from "../adapter/initialise.ts";
import { callPolicy, describeGiven, namePolicy } from "../strategy/call-policy.ts";
import type { Aggregate, ClientHistory, RankAssigner, RankedClient, SelectionContext, ServerState, Update } from "../strategy/strategy.ts";
import type { WorkerMessageOf } from "../protocol/messages.ts";
import { inTurns } from "../tensor/turns.ts";
import { createRng, deriveSeed } from "../tensor/rng.ts";
import type { Reply, WorkerPool } from "../workers/task.ts";
import { distribute } from "./distribute.ts";
import { requireAccumulator, requireAggregate } from "./require-adapter.ts";
import type { RoundSpool, StoredFit } from "./spool.ts";
import { toFitSpec, WIRE_DTYPES } from "./wire-specs.ts";

export interface RoundInput extends Opening {
  readonly pool: WorkerPool;
  readonly history: ReadonlyMap<string, ClientHistory>;
  readonly spool: RoundSpool;
  /** How an earlier life of the run closed this round: that is not decided anew. */
  readonly closed?: RoundClose | undefined;
  /** `isRestored`: it was trained in an earlier life of the run. */
  onFit?(client: RankedClient, reply: Reply<"fit">, isRestored: boolean): void;
  /** An answer came after the round had closed, and was refused. */
  onLate?(client: RankedClient, reply: Reply<"fit">): void;
}

/** What a round's aggregation begins with. */
export interface Opening {
  readonly round: number;
  readonly config: RunConfig;
  readonly layout: AdapterLayout;
  readonly global: Adapter;
  readonly state: ServerState;
  /** Clients of this round, in index order. */
  readonly selected: readonly RankedClient[];
}

/** Of whom a round's result is made; each list in index order. */
export interface RoundClose {
  readonly reported: readonly string[];
  /** They used up their tries. */
  readonly failed: readonly string[];
  /** They were not waited for. */
  readonly late: readonly string[];
}

export interface RoundOutcome extends Aggregate, RoundClose {
  /** Of the clients that reported. */
  readonly history: readonly (readonly [id: string, ClientHistory])[];
  /** Ranks that the strategy's rank assignment has changed, by client id. */
  readonly revised: ReadonlyMap<string, number>;
  /** Failed clients whose workers ended in their last try, each with how: they are to be left alone. */
  readonly deadly: ReadonlyMap<string, Error>;
  /** Mean training loss weighted by examples; null when a client's was not finite. */
  readonly fitLoss: number | null;
  readonly passes: number;
  readonly bytesDown: number;
  readonly bytesUp: number;
}

/** Who trains in a round: what the strategy chose, checked, in index order. */
export async function selectClients(
  config: RunConfig,
  { round, clients, ...known }: Omit<SelectionContext, "rng">,
): Promise<readonly RankedClient[]> {
  const rng = (purpose: string) => createRng(deriveSeed(config.seed, "round", round, "policy", purpose));
  const { selection } = config.strategy;
  const subject = `${namePolicy("selection", selection)} of round ${round}`;
  const all = new Set(clients.map(({ id }) => id));
  const losses: SelectionContext["losses"] = async (candidates) => {
    if (Array.isArray(candidates) && candidates.every((client) => all.has(client?.id))) return known.losses(candidates);
    throw new RunFailedError(`${subject} must ask losses() of an array of the run's clients, gave ${describeGiven(candidates)}`);
  };
  const context: SelectionContext = { ...known, round, clients, losses, rng };
  const ids = await callPolicy(subject, () => selection(context));
  if (!Array.isArray(ids)) throw new RunFailedError(`${subject} must give an array of client ids, gave ${describeGiven(ids)}`);
  const chosen = new Set(ids);
  const selected = clients.filter((client) => chosen.has(client.id));
  if (selected.length !== ids.length) {
    // Each id is taken out as it is met, so one named twice is missing the second time.
    const unmet = new Set(all);
    const wrong = ids.find((id) => !unmet.delete(id));
    throw new RunFailedError(`${subject} must name known clients once each, got ${describeGiven(wrong)}`);
  }
  return selected;
}

/** A round's sum as it grows: what each client is handed, and what becomes of its answer. */
export interface OpenRound {
  received(client: RankedClient): Adapter;
  /**
   * Checks an answer and adds its update, which is kept on disk meanwhile. Throws RefusedError, and the sum is as it was. Gives
   * whether the payload is forgotten.
   */
  take(
    client: RankedClient,
    answer: Pick<Reply<"fit">, "message" | "payload">,
    keep: () => Promise<StoredFit | undefined>,
  ): Promise<boolean>;
  finish(): Promise<Aggregate & Pick<RoundOutcome, "revised">>;
}

export function openRound({ round, config, layout, global, state, selected }: Opening): OpenRound {
  const { aggregation, rankAssignment } = config.strategy;
  const fresh = () => initialAdapter(layout, global.dense, deriveSeed(config.seed, "round", round, "adapter")).rows;
  const name = namePolicy("aggregation", aggregation);
  const accumulator = callPolicy(`${name}'s begin() of round ${round}`, () =>
    aggregation.begin({ round, layout, global, state, clients: selected, fresh }),
  );
  requireAccumulator(`${name}'s begin() of round ${round}`, accumulator);
  const revised = new Map<string, number>();
  const downlink = createDownlink(WIRE_DTYPES[config.wire.downlink]);
  const downlinks = new Map(layout.tiers.map((r) => [r, downlink(distribute(aggregation, global, layout, r))]));
  const received = ({ r }: RankedClient) => downlinks.get(r) as Adapter;
  return {
    received,
    async take(client, { message, payload }, keep) {
      const known = { id: client.id, r: client.r, n: client.size };
      const delta = validateUpdate({ layout, client: known, reply: message, payload });
      const keeping = keep();
      // Heard of below, once the update has been added.
      keeping.catch(() => {});
      try {
        // Whoever else looks at the values must not see what is no number.
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
    async finish() {
      const subject = `${name}'s finish() of round ${round}`;
      const aggregate = await callPolicy(subject, () => accumulator.finish());
      await inTurns(requireAggregate(subject, aggregate, layout));
      return { ...aggregate, revised };
    },
  };
}

/** A client's part in a round's result. */
interface Report {
  readonly message: WorkerMessageOf<"fitted">;
  readonly up: number;
  readonly down: number;
}

/**
 * One server round: the global adapter's prefixes go out, largest fits first, and each update is validated and folded in as it
 * arrives; of those in shared memory two are held at most. A client that fails all its tries is recorded and left out. The
 * round closes once all have reported or failed, or as `closing` has it.
 */
export async function runRound(input: RoundInput): Promise<RoundOutcome> {
  const { round, config, pool, layout, selected, spool, closed } = input;
  const open = openRound(input);
  const updateDtype = WIRE_DTYPES[config.wire.update];
  const reportedBefore = closed && new Set(closed.reported);
  const failedBefore = new Set(closed?.failed);
  const asked = reportedBefore ? selected.filter(({ id }) => reportedBefore.has(id)) : selected;
  const reports = new Map<string, Report>();
  const failures = new Map<string, Error>();
  const { quorum, enough, deadlineMs } = limitsOf(closed ? {} : config.closing, asked.length);

  /** Aborted once nobody is waited for any more who has not reported. */
  const closing = new AbortController();
  setMaxListeners(0, closing.signal);
  let isDue = false;
  const closeIfEnough = () => {
    const isEnough = reports.size >= (isDue ? quorum : enough);
    if (isEnough && reports.size < asked.length) closing.abort(new InterruptedError(`round ${round} is closed`));
  };
  const due = () => {
    isDue = true;
    closeIfEnough();
  };
  const timer = deadlineMs === undefined ? undefined : setTimeout(due, deadlineMs);
  /** They count, though the round closes meanwhile. */
  const taking: Promise<unknown>[] = [];

  const take = (
    client: RankedClient,
    reply: Reply<"fit">,
    keep: () => Promise<StoredFit | undefined>,
    isRestored: boolean,
  ): Promise<boolean> => {
    if (closing.signal.aborted) {
      input.onLate?.(client, reply);
      throw closing.signal.reason;
    }
    const taken = open.take(client, reply, keep).then((isForgotten) => {
      const received = open.received(client);
      const { rows, dense } = encodingOf(received);
      const down = rows.bytes.length + dense.bytes.length + missedBytes(received, layout, round, input.history.get(client.id));
      const up = reply.message.tensors.reduce((sum, { bytes }) => sum + bytes, 0);
      reports.set(client.id, { message: reply.message, up, down });
      input.onFit?.(client, reply, isRestored);
      closeIfEnough();
      return isForgotten;
    });
    taking.push(taken);
    return taken;
  };
  const fit = async (client: RankedClient): Promise<void> => {
    const seeded = { id: client.id, seed: fitSeed(config.seed, round, client.id) };
    const restored = await spool.restore(seeded, ({ reply, stored }) => take(client, reply, async () => stored, true));
    if (restored) return;
    const received = open.received(client);
    await pool.run<"fit">({
      id: `round-${round}/fit/${client.id}`,
      request: {
        type: "fit",
        round,
        client_id: client.id,
        r: client.r,
        scale: layout.scale,
        seed: seeded.seed,
        fit: toFitSpec(config, round),
        update_dtype: updateDtype,
      },
      payload: received,
      expect: shapesOf(received, layout),
      dtype: updateDtype,
      accept: (reply) => take(client, reply, () => spool.keep(seeded, reply), false),
      priority: client.r,
      signal: closing.signal,
    });
  };
  const fitOrFail = async (client: RankedClient): Promise<void> => {
    try {
      await fit(client);
    } catch (error) {
      if (closing.signal.aborted || reports.has(client.id)) return;
      if (!isClientFailure(error)) throw error;
      failures.set(client.id, error as Error);
    }
  };

  const isClosed = once(closing.signal, "abort");
  try {
    await Promise.race([Promise.all(asked.map(fitOrFail)), isClosed]);
  } finally {
    clearTimeout(timer);
  }
  await Promise.allSettled(taking);
  if (reports.size < quorum) throw failureOf(round, reports.size, quorum, asked.length, failures);

  const finished = await open.finish();
  const inOrder = asked.flatMap((client) => {
    const report = reports.get(client.id);
    return report ? [{ client, ...report }] : [];
  });
  const examples = inOrder.reduce((sum, { client }) => sum + client.size, 0);
  const hasFailed = ({ id }: RankedClient) => failures.has(id) || failedBefore.has(id);
  const isLate = (client: RankedClient) => !reports.has(client.id) && !hasFailed(client);
  return {
    ...finished,
    fitLoss:
      inOrder.length === 0
        ? null
        : inOrder.reduce<number | null>(
            (sum, { client, message }) => (sum === null || message.loss === null ? null : sum + (client.size / examples) * message.loss),
            0,
          ),
    reported: inOrder.map(({ client }) => client.id),
    failed: selected.filter(hasFailed).map(({ id }) => id),
    late: selected.filter(isLate).map(({ id }) => id),
    deadly: new Map([...failures].filter(([, error]) => error instanceof WorkerError && error.details.traceback === undefined)),
    passes: inOrder.reduce((sum, { message }) => sum + message.passes, 0),
    bytesDown: inOrder.reduce((sum, { down }) => sum + down, 0),
    bytesUp: inOrder.reduce((sum, { up }) => sum + up, 0),
    history: inOrder.map(({ client, message }) => [client.id, { round, rmsLoss: message.rms_loss }]),
  };
}

/** The seed of a client's fit in a round. */
export function fitSeed(seed: number, round: number, clientId: string): string {
  return deriveSeed(seed, "round", round, "client", clientId, "fit");
}

/** Of so many clients: how many must report, how many are enough, and how long all are waited for. */
function limitsOf({ quorum = 0, enough = 1, deadline }: Partial<RunConfig["closing"]>, clients: number) {
  const least = Math.min(clients, Math.max(1, Math.ceil(quorum * clients)));
  return { quorum: least, enough: Math.ceil(enough * clients), deadlineMs: deadline === undefined ? undefined : deadline * 1000 };
}

function failureOf(round: number, reported: number, quorum: number, asked: number, failures: ReadonlyMap<string, Error>): Error {
  const [[client, first] = []] = failures;
  if (quorum === 1 && first) return first;
  const problem = `round ${round}: ${reported} of ${asked} clients reported, and closing.quorum asks for ${quorum}`;
  return new RunFailedError(
    `${problem}; client ${client} failed with:
${first?.message}`,
    { cause: first },
  );
}

/** A client that used up its tries is a result; an interruption, or a pool without workers, ends the run. */
function isClientFailure(error: unknown): boolean {
  return error instanceof PrelortError && (error.kind === "worker" || error.kind === "refused");
}
function shapesOf(adapter: Adapter, layout: AdapterLayout): { rows: number[]; dense?: number[] } {
  const rows = [adapter.r, layout.width];
  return layout.denseSize > 0 ? { rows, dense: [layout.denseSize] } : { rows };
}

/** Bytes of the components merged into the base since the client last had them. */
function missedBytes({ merged }: Adapter, { width }: AdapterLayout, round: number, last: ClientHistory | undefined): number {
  if (!merged) return 0;
  const missed = (merged.ends[round - 1] ?? 0) - (merged.ends[(last?.round ?? 1) - 1] ?? 0);
  return missed * width * Float32Array.BYTES_PER_ELEMENT;
}

/** The rank that a client goes on with after its fit. */
function revisedRank(assigner: RankAssigner, client: RankedClient, update: Update, layout: AdapterLayout): number {
  if (!assigner.revise) return client.r;
  const subject = `${namePolicy("rank assignment", assigner)}'s revise() of client ${client.id}`;
  const r = callPolicy(subject, () => assigner.revise?.(client, update, layout)) ?? client.r;
  if (layout.tiers.includes(r)) return r;
  throw new RunFailedError(`${subject} must give one of the tiers [${layout.tiers.join(", ")}], gave ${describeGiven(r)}`);
}
