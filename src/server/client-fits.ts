import { RefusedError } from "../errors.ts";
import type { ArrivedSum, Basis } from "../records/sum-file.ts";
import type { StoredFit } from "../records/update-file.ts";
import type { RoundUpdates, SeededClient } from "../records/update-store.ts";
import { WIRE_DTYPES } from "../config/wire-specs.ts";
import type { RankedClient } from "../strategy/strategy.ts";
import { NO_SPAN, type Span } from "../telemetry/telemetry.ts";
import { named, type Reply, type TaskRequest, type WorkerPool } from "../workers/task.ts";
import { type Fate, HeldUpdates } from "./held-updates.ts";
import type { Opening, OpenRound } from "./round-aggregation.ts";
import { isClientFailure } from "./round-closing.ts";
import { answerShapes, fitRequest, fitSeed } from "./task-requests.ts";

export interface FitsInput extends Opening {
  readonly pool: WorkerPool;
  readonly updates: RoundUpdates;
  /** SHA-256 of the `global.safetensors` that fits start from. */
  readonly adapter: string;
  /** The round's; absent if it is not traced. */
  readonly span?: Span | undefined;
  /** An update arrived after the round had closed, and was refused. */
  onLate?(client: RankedClient, fit: Fit): void;
}

/** An answer to a fit request. */
export type Fit = Pick<Reply<"fit">, "workerId" | "attempt" | "message">;

/** What a round wants to know of its clients' fits. */
export interface FitsListener {
  /** Aborted once the round no longer waits for clients that have not reported. */
  readonly closing: AbortSignal;
  /** An update will count once the sum arrives that it was added to. */
  granted(): void;
  counted(client: RankedClient, fit: Fit, isRestored: boolean): void;
}

/** How often a client trains again because its update was lost with a worker, before it fails. */
const MAX_LOSSES = 10;

/**
 * Has a round's clients train, and counts their updates: each as it arrives, or, with partial sums, once the sum has arrived
 * that their worker added it to.
 */
export class ClientFits {
  readonly #input: FitsInput;
  readonly #sum: OpenRound;
  readonly #listener: FitsListener;
  readonly #clients: ReadonlyMap<string, RankedClient>;
  /** Updates that are being added: they count even if the round closes meanwhile. */
  readonly #counting: Promise<unknown>[] = [];
  /** Undefined if every update is sent. */
  readonly #held: HeldUpdates | undefined;
  readonly #granted = new Set<string>();
  /** Clients that have not answered; when there are none, the sums are collected. */
  #unanswered: number;

  constructor(input: FitsInput, sum: OpenRound, asked: readonly RankedClient[], listener: FitsListener) {
    const { config, pool, layout, updates, span } = input;
    this.#input = input;
    this.#sum = sum;
    this.#listener = listener;
    this.#clients = new Map(asked.map((client) => [client.id, client]));
    this.#unanswered = asked.length;
    const { partialSums } = sum;
    if (!partialSums || !config.partialSums) return;
    const { resolution } = partialSums;
    const accept = (arrived: ArrivedSum) => this.#merge(arrived, () => updates.keepSum(resolution, arrived), false);
    this.#held = new HeldUpdates({ pool, layout, basis: this.#basis(resolution), ...config.partialSums, span, accept });
  }

  /** Clients with an update in a sum that has not arrived. */
  get granted(): number {
    return this.#granted.size;
  }

  /** Asks every worker for its sum, unless the round is closed. */
  collect(): void {
    if (!this.#listener.closing.aborted) this.#held?.collectAll();
  }

  /** Resolves once everything that has arrived is counted or refused; nothing may arrive after that. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#counting);
    this.#held?.close();
  }

  /** Counts the partial sums that an interrupted run of this round has left, until the round is closed. */
  async restoreSums(): Promise<void> {
    const { partialSums } = this.#sum;
    if (!partialSums) return;
    const take = async (sum: ArrivedSum) => {
      if (this.#listener.closing.aborted) return;
      await this.#merge(sum, async () => {}, true);
      this.#unanswered -= sum.fits.length;
    };
    await this.#input.updates.restoreSums(partialSums.resolution, take);
  }

  /** Resolves once the client's update counts. Rejects with the error of its last attempt, or when the round closes. */
  async fit(client: RankedClient): Promise<void> {
    const { round, config, updates, span = NO_SPAN } = this.#input;
    const seeded = { id: client.id, seed: fitSeed(config.seed, round, client.id) };
    try {
      const restored = await updates.restore(seeded, ({ reply, stored }) => this.#take(client, reply, async () => stored, true));
      const about = { "prelort.round": round, "prelort.client.id": client.id, "prelort.rank": client.r };
      if (!restored) await span.during("prelort.fit", about, (fit) => this.#trainUntilCounted(client, seeded, fit));
    } finally {
      this.#answered();
    }
  }

  #answered(): void {
    this.#unanswered--;
    if (this.#unanswered === 0) this.collect();
  }

  async #trainUntilCounted(client: RankedClient, seeded: SeededClient, span: Span): Promise<void> {
    const { retries } = this.#input.config.workers;
    let [firstAttempt, failures] = [1, 0];
    for (let losses = 0; losses < MAX_LOSSES; losses++) {
      const { reply, fate } = await this.#train(client, seeded, firstAttempt, span);
      span.set({ "prelort.worker.id": reply.workerId, "prelort.attempt": reply.attempt });
      this.#answered();
      try {
        if ((await fate) === "counted") return;
        span.event("prelort.update.lost", { "prelort.attempt": reply.attempt, "prelort.worker.id": reply.workerId });
      } catch (error) {
        if (!isClientFailure(error) || ++failures > retries) throw error;
      } finally {
        this.#unanswered++;
      }
      firstAttempt = reply.attempt + 1;
    }
    throw new RefusedError(
      `the update of client ${client.id}`,
      "a worker that lives until it has sent its sum",
      `${MAX_LOSSES} that ended`,
    );
  }

  /** Has a client train. `fate` resolves once its update counts, or is lost with the worker that holds it. */
  async #train(
    client: RankedClient,
    seeded: SeededClient,
    firstAttempt: number,
    span: Span,
  ): Promise<{ readonly reply: Reply<"fit">; readonly fate: Promise<Fate> | Fate }> {
    const { round, config, layout, pool, updates } = this.#input;
    const received = this.#sum.received(client);
    const partialSum = this.#partialSum();
    let fate: Promise<Fate> | Fate = "counted";
    const reply = await pool.run<"fit">({
      ...named({ kind: "fit", round, clientId: client.id }),
      request: fitRequest(config, layout, { round, client, seed: seeded.seed, partialSum }),
      payload: received,
      readState: updates.stateOf?.(client.id),
      expect: partialSum ? {} : answerShapes(config, layout, received),
      dtypes: [WIRE_DTYPES[config.wire.update]],
      accept: (answer) => {
        if (!this.#held) return this.#take(client, answer, () => updates.keep(seeded, answer), false);
        fate = this.#grant(client, answer, this.#held);
        return undefined;
      },
      firstAttempt,
      priority: client.r,
      signal: this.#listener.closing,
      span,
    });
    return { reply, fate };
  }

  #partialSum(): TaskRequest<"fit">["partial_sum"] {
    const { partialSums } = this.#sum;
    if (!partialSums) return null;
    return { basis: this.#basis(partialSums.resolution), largest: partialSums.largestValue, needs_norm: partialSums.needsNorm };
  }

  #basis(resolution: number): Basis {
    return { round: this.#input.round, adapter: this.#input.adapter, resolution };
  }

  /** Has its worker add an update to its sum, unless it must not count. */
  #grant(client: RankedClient, reply: Reply<"fit">, held: HeldUpdates): Promise<Fate> {
    try {
      this.#requireOpen(client, reply);
      const fate = held.grant(reply, this.#sum.weigh(client, reply.message)).finally(() => this.#granted.delete(client.id));
      // Nobody waits for it if the task is interrupted meanwhile.
      fate.catch(() => {});
      this.#granted.add(client.id);
      this.#listener.granted();
      return fate;
    } catch (error) {
      held.refuse(reply);
      throw error;
    }
  }

  /** Counts all updates of a partial sum, while `keep` writes it to disk, or throws a RefusedError and counts none. */
  #merge(sum: ArrivedSum, keep: () => Promise<(() => void) | void>, isRestored: boolean): Promise<void> {
    const merging = this.#mergeNow(sum, keep, isRestored);
    this.#counting.push(merging);
    return merging;
  }

  async #mergeNow(sum: ArrivedSum, keep: () => Promise<(() => void) | void>, isRestored: boolean): Promise<void> {
    this.#listener.closing.throwIfAborted();
    const members = sum.fits.map((message) => ({ message, client: this.#clientOf(message.client_id) }));
    // Again for those of an interrupted run; all members before any of them counts.
    for (const { client, message } of members) this.#sum.weigh(client, message);
    const keeping = keep();
    try {
      await this.#sum.merge(
        members.map(({ client }) => client),
        sum,
      );
    } catch (error) {
      (await keeping)?.();
      throw error;
    }
    await keeping;
    const { workerId } = sum;
    for (const { client } of members) this.#granted.delete(client.id);
    for (const { client, message } of members) {
      this.#listener.counted(client, { workerId, attempt: message.attempt, message }, isRestored);
    }
  }

  #clientOf(id: string): RankedClient {
    const client = this.#clients.get(id);
    if (!client) throw new RefusedError(`the update of client ${id}`, "a client of this round", "another");
    return client;
  }

  /** Adds an update to the round. Returns whether its payload is no longer needed. */
  #take(client: RankedClient, reply: Reply<"fit">, keep: () => Promise<StoredFit | undefined>, isRestored: boolean): Promise<boolean> {
    this.#requireOpen(client, reply);
    const taken = this.#sum.take(client, reply, keep).then((isForgotten) => {
      this.#listener.counted(client, reply, isRestored);
      return isForgotten;
    });
    this.#counting.push(taken);
    return taken;
  }

  #requireOpen(client: RankedClient, fit: Fit): void {
    if (!this.#listener.closing.aborted) return;
    this.#input.onLate?.(client, fit);
    throw this.#listener.closing.reason;
  }
}
