import { once, setMaxListeners } from "node:events";
import type { Adapter } from "../adapter/adapter.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import { encodingOf } from "../adapter/encoded-adapter.ts";
import { InterruptedError, PrelortError, WorkerError } from "../errors.ts";
import type { WorkerMessageOf } from "../protocol/messages.ts";
import type { ClientHistory, RankedClient } from "../strategy/strategy.ts";
import { named, type Reply, type WorkerPool } from "../workers/task.ts";
import { type Aggregated, openRound, type Opening, type OpenRound } from "./round-aggregation.ts";
import { closesEarly, closingRule, type ClosingRule, quorumError, type RoundClose } from "./round-closing.ts";
import type { StoredFit } from "../records/update-file.ts";
import type { RoundUpdates } from "../records/update-store.ts";
import { fitRequest, fitSeed, updateShapes } from "./task-requests.ts";
import { WIRE_DTYPES } from "../config/wire-specs.ts";

export interface RoundInput extends Opening {
  readonly pool: WorkerPool;
  readonly history: ReadonlyMap<string, ClientHistory>;
  readonly updates: RoundUpdates;
  /** How this round closed before the run was resumed; this is not decided again. */
  readonly closed?: RoundClose | undefined;
  /** `isRestored`: it was trained before the run was resumed. */
  onFit?(client: RankedClient, reply: Reply<"fit">, isRestored: boolean): void;
  /** An update arrived after the round had closed, and was refused. */
  onLate?(client: RankedClient, reply: Reply<"fit">): void;
}

export interface RoundOutcome extends Aggregated, RoundClose {
  /** Of the clients that reported. */
  readonly history: readonly (readonly [id: string, ClientHistory])[];
  /** Failed clients whose workers died in their last attempt, with the error: they are quarantined. */
  readonly poison: ReadonlyMap<string, Error>;
  /** Mean training loss weighted by examples; null when a client's was not finite. */
  readonly fitLoss: number | null;
  /** Likewise the mean gradient norm before clipping; undefined if nothing is clipped. */
  readonly gradNorm: number | null | undefined;
  readonly passes: number;
  readonly bytesDown: number;
  readonly bytesUp: number;
}

/**
 * One server round. Sends each client its prefix of the global adapter, largest ranks first, and validates and aggregates each
 * update as it arrives; at most two are held in shared memory. A client that fails all its attempts is recorded and left out. The
 * round closes once all clients have reported or failed, or when `closing` says so.
 */
export async function runRound(input: RoundInput): Promise<RoundOutcome> {
  return new Round(input).run();
}

/** A client's part in a round's result. */
interface Report {
  readonly message: WorkerMessageOf<"fitted">;
  readonly up: number;
  readonly down: number;
}

class Round {
  readonly #input: RoundInput;
  readonly #sum: OpenRound;
  readonly #asked: readonly RankedClient[];
  readonly #rule: ClosingRule;
  readonly #reports = new Map<string, Report>();
  readonly #failures = new Map<string, Error>();
  /** Aborted once the round no longer waits for clients that have not reported. */
  readonly #closing = new AbortController();
  /** Updates that are being added: they count even if the round closes meanwhile. */
  readonly #taking: Promise<unknown>[] = [];
  #isDue = false;

  constructor(input: RoundInput) {
    const { config, selected, closed } = input;
    const reported = closed && new Set(closed.reported);
    this.#input = input;
    this.#sum = openRound(input);
    this.#asked = reported ? selected.filter(({ id }) => reported.has(id)) : selected;
    this.#rule = closingRule(closed ? {} : config.closing, this.#asked.length);
    setMaxListeners(0, this.#closing.signal);
  }

  async run(): Promise<RoundOutcome> {
    const { deadlineMs, quorum } = this.#rule;
    const due = () => {
      this.#isDue = true;
      this.#closeIfEnough();
    };
    const timer = deadlineMs === undefined ? undefined : setTimeout(due, deadlineMs);
    const isClosed = once(this.#closing.signal, "abort");
    try {
      await Promise.race([Promise.all(this.#asked.map((client) => this.#fitOrFail(client))), isClosed]);
    } finally {
      clearTimeout(timer);
    }
    await Promise.allSettled(this.#taking);
    const counts = { asked: this.#asked.length, reported: this.#reports.size };
    if (counts.reported < quorum) throw quorumError(this.#input.round, this.#rule, counts, this.#failures);
    return this.#summarise(await this.#sum.finish());
  }

  async #fitOrFail(client: RankedClient): Promise<void> {
    try {
      await this.#fit(client);
    } catch (error) {
      if (this.#closing.signal.aborted || this.#reports.has(client.id)) return;
      if (!isClientFailure(error)) throw error;
      this.#failures.set(client.id, error as Error);
    }
  }

  async #fit(client: RankedClient): Promise<void> {
    const { round, config, layout, pool, updates } = this.#input;
    const seeded = { id: client.id, seed: fitSeed(config.seed, round, client.id) };
    const restored = await updates.restore(seeded, ({ reply, stored }) => this.#take(client, reply, async () => stored, true));
    if (restored) return;
    const received = this.#sum.received(client);
    await pool.run<"fit">({
      ...named({ kind: "fit", round, clientId: client.id }),
      request: fitRequest(config, layout, { round, client, seed: seeded.seed }),
      payload: received,
      expect: updateShapes(received, layout),
      dtype: WIRE_DTYPES[config.wire.update],
      accept: (reply) => this.#take(client, reply, () => updates.keep(seeded, reply), false),
      priority: client.r,
      signal: this.#closing.signal,
    });
  }

  /** Adds an update to the round. Returns whether its payload is no longer needed. */
  #take(client: RankedClient, reply: Reply<"fit">, keep: () => Promise<StoredFit | undefined>, isRestored: boolean): Promise<boolean> {
    if (this.#closing.signal.aborted) {
      this.#input.onLate?.(client, reply);
      throw this.#closing.signal.reason;
    }
    const taken = this.#sum.take(client, reply, keep).then((isForgotten) => {
      this.#reports.set(client.id, { message: reply.message, ...this.#bytesOf(client, reply) });
      this.#input.onFit?.(client, reply, isRestored);
      this.#closeIfEnough();
      return isForgotten;
    });
    this.#taking.push(taken);
    return taken;
  }

  #bytesOf(client: RankedClient, { message }: Reply<"fit">): Pick<Report, "up" | "down"> {
    const { round, layout, history } = this.#input;
    const received = this.#sum.received(client);
    const { rows, dense } = encodingOf(received);
    const missed = missedBytes(received, layout, round, history.get(client.id));
    return { down: rows.bytes.length + dense.bytes.length + missed, up: message.tensors.reduce((sum, { bytes }) => sum + bytes, 0) };
  }

  #closeIfEnough(): void {
    const state = { asked: this.#asked.length, reported: this.#reports.size, isDue: this.#isDue };
    if (closesEarly(this.#rule, state)) this.#closing.abort(new InterruptedError(`round ${this.#input.round} is closed`));
  }

  #summarise(aggregated: Aggregated): RoundOutcome {
    const { round, config, selected, closed } = this.#input;
    const reports = this.#asked.flatMap((client) => {
      const report = this.#reports.get(client.id);
      return report ? [{ client, ...report }] : [];
    });
    const failedBefore = new Set(closed?.failed);
    const isFailed = ({ id }: RankedClient) => this.#failures.has(id) || failedBefore.has(id);
    const isLate = (client: RankedClient) => !this.#reports.has(client.id) && !isFailed(client);
    const total = (of: (report: (typeof reports)[number]) => number) => reports.reduce((sum, report) => sum + of(report), 0);
    return {
      ...aggregated,
      fitLoss: meanOf(reports, ({ loss }) => loss),
      gradNorm: config.fit.maxGradNorm > 0 ? meanOf(reports, ({ grad_norm }) => grad_norm) : undefined,
      reported: reports.map(({ client }) => client.id),
      failed: selected.filter(isFailed).map(({ id }) => id),
      late: selected.filter(isLate).map(({ id }) => id),
      poison: new Map([...this.#failures].filter(([, error]) => error instanceof WorkerError && error.details.traceback === undefined)),
      passes: total(({ message }) => message.passes),
      bytesDown: total(({ down }) => down),
      bytesUp: total(({ up }) => up),
      history: reports.map(({ client, message }) => [client.id, { round, rmsLoss: message.rms_loss }]),
    };
  }
}

/** Weighted by the clients' examples; null if there is no value, or one that is not finite. */
function meanOf(
  reports: readonly (Pick<Report, "message"> & { readonly client: RankedClient })[],
  figure: (message: Report["message"]) => number | null,
): number | null {
  if (reports.length === 0) return null;
  const examples = reports.reduce((sum, { client }) => sum + client.size, 0);
  return reports.reduce<number | null>((sum, { client, message }) => {
    const value = figure(message);
    return sum === null || value === null ? null : sum + (client.size / examples) * value;
  }, 0);
}

/** A client that used up its attempts is a result; an interruption, or a pool without workers, ends the run. */
function isClientFailure(error: unknown): boolean {
  return error instanceof PrelortError && (error.kind === "worker" || error.kind === "refused");
}

/** Bytes of the components merged into the base since the client last had them. */
function missedBytes({ merged }: Adapter, { width }: AdapterLayout, round: number, last: ClientHistory | undefined): number {
  if (!merged) return 0;
  const missed = (merged.ends[round - 1] ?? 0) - (merged.ends[(last?.round ?? 1) - 1] ?? 0);
  return missed * width * Float32Array.BYTES_PER_ELEMENT;
}
