import { setMaxListeners } from "node:events";
import { RefusedError } from "../errors.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import { orAborted } from "../base/abort.ts";
import { createDeferred, type Deferred } from "../base/deferred.ts";
import type { WorkerMessageOf } from "../protocol/messages.ts";
import type { ArrivedSum, Basis } from "../records/sum-file.ts";
import { INTEGER_DTYPES, type IntegerDtype } from "../tensor/encoded.ts";
import type { Span } from "../telemetry/telemetry.ts";
import { named, type Reply, type WorkerPool } from "../workers/task.ts";

/** How a round's partial sums are made. */
export interface HeldOptions {
  readonly pool: WorkerPool;
  readonly basis: Basis;
  readonly layout: AdapterLayout;
  /** A worker is asked for its sum once it holds this many updates; fewer after a worker has ended with some. */
  readonly every: number;
  readonly encoding: "f64" | "packed";
  readonly span?: Span | undefined;
  /** Counts all members of a sum, or throws a RefusedError and counts none. */
  accept(sum: ArrivedSum): Promise<void>;
}

/** What became of a granted update: it counts, or its worker ended before its sum arrived. */
export type Fate = "counted" | "lost";

type Fitted = WorkerMessageOf<"fitted">;

/** An update that a worker was told to add up. */
interface Member {
  readonly fit: Fitted;
  readonly fate: Deferred<Fate>;
}

/** The updates of a round that workers hold and add up, until their sums have arrived. */
export class HeldUpdates {
  readonly #options: HeldOptions;
  /** By worker: updates in the sum that it has not been asked for. */
  readonly #members = new Map<string, readonly Member[]>();
  /** Workers whose end is awaited. */
  readonly #watched = new Set<string>();
  /** Aborted once nobody waits for an update any more: a worker, which lives on, must not keep what the round needed. */
  readonly #closing = new AbortController();
  #collections = 0;
  /** A worker is asked for its sum once it holds this many updates: fewer after each death. */
  #every: number;

  constructor(options: HeldOptions) {
    this.#options = options;
    this.#every = options.every;
    setMaxListeners(0, this.#closing.signal);
  }

  /** Has the worker of a reply add its update to its sum. Resolves once that sum has arrived; rejects if it is refused. */
  grant({ workerId, message }: Reply<"fit">, weight: number): Promise<Fate> {
    this.#options.pool.grant(workerId, message, weight);
    const member = { fit: message, fate: createDeferred<Fate>() };
    const members = [...(this.#members.get(workerId) ?? []), member];
    this.#members.set(workerId, members);
    this.#watch(workerId);
    if (members.length >= this.#every) this.#collect(workerId);
    return member.fate.promise;
  }

  /** Has a worker forget an update that must not count. */
  refuse({ workerId, message }: Reply<"fit">): void {
    this.#options.pool.grant(workerId, message, null);
  }

  /** Asks every worker for its sum. */
  collectAll(): void {
    for (const workerId of this.#members.keys()) this.#collect(workerId);
  }

  /** Ends the round: what has not arrived does not count. */
  close(): void {
    // An error would hold on to this, by its stack.
    this.#closing.abort("the round has ended");
  }

  #watch(workerId: string): void {
    if (this.#watched.has(workerId)) return;
    this.#watched.add(workerId);
    void this.#loseAtEnd(workerId);
  }

  async #loseAtEnd(workerId: string): Promise<void> {
    try {
      await orAborted(this.#options.pool.ended(workerId), this.#closing.signal);
    } catch {
      return;
    }
    this.#watched.delete(workerId);
    this.#lose(this.#take(workerId));
  }

  #collect(workerId: string): void {
    const members = this.#take(workerId);
    if (members.length === 0) return;
    this.#arrival(workerId, members).then(
      (fate) => (fate === "lost" ? this.#lose(members) : settle(members, fate)),
      (error: unknown) => {
        for (const { fate } of members) fate.reject(error);
      },
    );
  }

  /** A client that ends its workers must not cost others their updates at each of its attempts. */
  #lose(members: readonly Member[]): void {
    if (members.length > 0) this.#every = Math.max(1, Math.floor(this.#every / 4));
    settle(members, "lost");
  }

  #take(workerId: string): readonly Member[] {
    const members = this.#members.get(workerId) ?? [];
    this.#members.delete(workerId);
    return members;
  }

  async #arrival(workerId: string, members: readonly Member[]): Promise<Fate> {
    const { pool, basis, layout, encoding, accept, span } = this.#options;
    const fits = members.map(({ fit }) => fit);
    const rows = [Math.max(...fits.map(({ r }) => r)), layout.width];
    const part = `${workerId}-${++this.#collections}`;
    const reply = await pool.runOn<"collect">(workerId, {
      ...named({ kind: "collect", round: basis.round, part }),
      request: { type: "collect", basis, dtype: encoding === "f64" ? "F64" : "packed" },
      expect: layout.denseSize > 0 ? { rows, dense: [layout.denseSize] } : { rows },
      dtypes: dtypesOf(encoding),
      span,
      accept: async ({ message, payload }) => {
        requireSum(message, basis, fits);
        await accept({ workerId, fits, payload });
        return true;
      },
    });
    return reply ? "counted" : "lost";
  }
}

function dtypesOf(encoding: HeldOptions["encoding"]): readonly IntegerDtype[] {
  return encoding === "f64" ? ["F64"] : INTEGER_DTYPES.filter((dtype) => dtype !== "F64");
}

function settle(members: readonly Member[], outcome: Fate): void {
  for (const { fate } of members) fate.resolve(outcome);
}

/** Throws RefusedError unless a sum is of exactly the granted updates, in this round. */
function requireSum(message: WorkerMessageOf<"collected">, basis: Basis, fits: readonly Fitted[]): void {
  const subject = `a partial sum of round ${basis.round}`;
  for (const key of ["round", "adapter", "resolution"] as const) {
    if (message.basis[key] !== basis[key]) throw new RefusedError(`${subject}: ${key}`, `${basis[key]}`, `${message.basis[key]}`);
  }
  const spell = (members: readonly Pick<Fitted, "task_id" | "attempt">[]) =>
    members
      .map(({ task_id, attempt }) => `${task_id} (attempt ${attempt})`)
      .toSorted()
      .join(", ");
  const [granted, added] = [spell(fits), spell(message.members)];
  if (granted !== added) throw new RefusedError(`${subject}: members`, granted, added);
}
