import type { Adapter } from "../adapter/adapter.ts";
import { createDownlink, encodingOf } from "../adapter/travel.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import { requireWithinBounds, validateUpdate } from "../adapter/update.ts";
import type { RunConfig } from "../config/schema.ts";
import { PrelortError, RunFailedError } from "../errors.ts";
import { initialAdapter } from "../adapter/initialise.ts";
import type { Aggregate, ClientHistory, RankedClient, SelectionContext, ServerState, Update } from "../strategy/strategy.ts";
import { inTurns } from "../tensor/turns.ts";
import { createRng, deriveSeed } from "../tensor/rng.ts";
import type { Reply, WorkerPool } from "../workers/task.ts";
import { requireAggregate, requireShape } from "./require-adapter.ts";
import type { RoundSpool, StoredFit } from "./spool.ts";
import { toFitSpec, WIRE_DTYPES } from "./wire-specs.ts";

export interface RoundInput {
  readonly round: number;
  readonly config: RunConfig;
  readonly pool: WorkerPool;
  readonly layout: AdapterLayout;
  readonly global: Adapter;
  readonly state: ServerState;
  readonly history: ReadonlyMap<string, ClientHistory>;
  /** Clients of this round, in index order. */
  readonly selected: readonly RankedClient[];
  readonly spool: RoundSpool;
  /** `isRestored`: it was trained in an earlier life of the run. */
  onFit?(client: RankedClient, reply: Reply<"fit">, isRestored: boolean): void;
}

export interface RoundOutcome extends Aggregate {
  /** Of the clients that reported. */
  readonly history: readonly (readonly [id: string, ClientHistory])[];
  /** Ranks that the strategy's rank assignment has changed, by client id. */
  readonly revised: ReadonlyMap<string, number>;
  /** Mean training loss weighted by examples; null when a client's was not finite. */
  readonly fitLoss: number | null;
  readonly reported: readonly string[];
  readonly failed: readonly string[];
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
  const context: SelectionContext = { round, clients, ...known, rng };
  const ids = await config.strategy.selection(context);
  const chosen = new Set(ids);
  const selected = clients.filter((client) => chosen.has(client.id));
  if (selected.length !== ids.length) {
    const all = new Set(clients.map((client) => client.id));
    const wrong = ids.find((id, place) => !all.has(id) || ids.indexOf(id) !== place);
    throw new RunFailedError(`the selection of round ${round} must name known clients once each, got ${JSON.stringify(wrong)}`);
  }
  return selected;
}

/**
 * One server round: the global adapter's prefixes go out, largest fits first, and each update is validated
 * and folded in as it arrives; of those in shared memory two are held at most. A client that fails
 * all its tries is recorded and left out.
 */
export async function runRound(input: RoundInput): Promise<RoundOutcome> {
  const { round, config, pool, layout, global, state, selected, spool } = input;
  const { aggregation, rankAssignment } = config.strategy;
  const fresh = () => initialAdapter(layout, global.dense, deriveSeed(config.seed, "round", round, "adapter")).rows;
  const accumulator = aggregation.begin({ round, layout, global, state, clients: selected, fresh });
  const revised = new Map<string, number>();
  const downlink = createDownlink(WIRE_DTYPES[config.wire.downlink]);
  const downlinks = new Map(
    layout.tiers.map((r) => {
      const handed = aggregation.distribute(global, layout, r);
      requireShape("the aggregation's distribute()", handed, r, layout);
      return [r, downlink(handed)];
    }),
  );
  const updateDtype = WIRE_DTYPES[config.wire.update];

  const fits = selected.map(async (client) => {
    const received = downlinks.get(client.r) as Adapter;
    const take = async ({ message, payload }: Reply<"fit">, keep: () => Promise<StoredFit | undefined>): Promise<boolean> => {
      const known = { id: client.id, r: client.r, n: client.size };
      const delta = validateUpdate({ layout, client: known, reply: message, payload });
      const keeping = keep();
      try {
        if (!accumulator.folds) await inTurns(requireWithinBounds(client.id, delta));
        const update: Update = { clientId: client.id, r: client.r, n: client.size, delta, received };
        const next = requireTier(rankAssignment.revise?.(client, update, layout) ?? client.r, layout, client);
        await accumulator.add(update);
        if (next !== client.r) revised.set(client.id, next);
        await keeping;
      } catch (error) {
        const kept = await keeping.catch(() => undefined);
        kept?.drop();
        throw error;
      }
      return accumulator.folds ?? false;
    };
    const restored = await spool.restore(client.id, ({ reply, stored }) => take(reply, async () => stored));
    const trained = async () =>
      pool.run<"fit">({
        id: `round-${round}/fit/${client.id}`,
        request: {
          type: "fit",
          round,
          client_id: client.id,
          r: client.r,
          scale: layout.scale,
          seed: deriveSeed(config.seed, "round", round, "client", client.id, "fit"),
          fit: toFitSpec(config, round),
          update_dtype: updateDtype,
        },
        payload: received,
        expect: shapesOf(received, layout),
        dtype: updateDtype,
        accept: (answer) => take(answer, () => spool.keep(client.id, answer)),
        priority: client.r,
      });
    const reply = restored ?? (await trained());
    input.onFit?.(client, reply, restored !== undefined);
    const { rows, dense } = encodingOf(received);
    const down = rows.bytes.length + dense.bytes.length + missedBytes(received, layout, round, input.history.get(client.id));
    const up = reply.message.tensors.reduce((sum, { bytes }) => sum + bytes, 0);
    return { client, message: reply.message, up, down };
  });

  const settled = await settleUnlessFatal(fits);
  const reports = settled.flatMap((fit) => (fit.status === "fulfilled" ? [fit.value] : []));
  const errors = settled.flatMap((fit) => (fit.status === "rejected" ? [fit.reason] : []));
  if (reports.length === 0 && errors.length > 0) throw errors[0];

  const aggregate = accumulator.finish();
  await inTurns(requireAggregate(round, aggregate, layout));
  const examples = reports.reduce((sum, { client }) => sum + client.size, 0);
  return {
    ...aggregate,
    fitLoss:
      reports.length === 0
        ? null
        : reports.reduce<number | null>(
            (sum, { client, message }) => (sum === null || message.loss === null ? null : sum + (client.size / examples) * message.loss),
            0,
          ),
    reported: reports.map(({ client }) => client.id),
    failed: selected.filter((_, place) => settled[place]?.status === "rejected").map((client) => client.id),
    passes: reports.reduce((sum, { message }) => sum + message.passes, 0),
    bytesDown: reports.reduce((sum, { down }) => sum + down, 0),
    bytesUp: reports.reduce((sum, { up }) => sum + up, 0),
    history: reports.map(({ client, message }) => [client.id, { round, rmsLoss: message.rms_loss }]),
    revised,
  };
}

/** What became of each, or at once the error that ends the run. */
async function settleUnlessFatal<T>(fits: readonly Promise<T>[]): Promise<PromiseSettledResult<T>[]> {
  const unlessFatal = fits.map((fit) =>
    fit.catch((error: unknown) => {
      if (!isClientFailure(error)) throw error;
    }),
  );
  await Promise.all(unlessFatal);
  return Promise.allSettled(fits);
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

function requireTier(r: number, { tiers }: AdapterLayout, { id }: RankedClient): number {
  if (tiers.includes(r)) return r;
  throw new RunFailedError(`the rank assignment revised the rank of client ${id} to ${r}, which is not among [${tiers.join(", ")}]`);
}
