import { once, setMaxListeners } from "node:events";
import type { Adapter } from "../adapter/adapter.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import { encodingOf } from "../adapter/encoded-adapter.ts";
import { InterruptedError, WorkerError } from "../errors.ts";
import type { WorkerMessageOf } from "../protocol/messages.ts";
import type { TrainedMetrics } from "../records/metrics.ts";
import type { ClientHistory, RankedClient } from "../strategy/strategy.ts";
import { type Aggregated, openRound, type OpenRound } from "./round-aggregation.ts";
import { NO_SPAN } from "../telemetry/telemetry.ts";
import { closesEarly, closingRule, type ClosingRule, isClientFailure, quorumError, type RoundClose } from "./round-closing.ts";
import { ClientFits, type Fit, type FitsInput } from "./client-fits.ts";
import { encodedBytes } from "../tensor/encoded.ts";
import { WIRE_DTYPES } from "../config/wire-specs.ts";
import { stateLengthIn } from "./task-requests.ts";

export interface RoundInput extends FitsInput {
  readonly history: ReadonlyMap<string, ClientHistory>;
  /** How this round closed before the run was resumed; this is not decided again. */
  readonly closed?: RoundClose | undefined;
  /** An update counts. `isRestored`: it was trained before the run was resumed. */
  onFit?(client: RankedClient, fit: Fit, isRestored: boolean): void;
  /** Every update that counts is there; what remains is the aggregation's result. */
  onGathered?(): void;
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
  /** Of all fits; undefined where every fit has the config's local steps. */
  readonly steps: number | undefined;
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
  readonly #fits: ClientFits;
  /** Aborted once the round no longer waits for clients that have not reported. */
  readonly #closing = new AbortController();
  #isDue = false;

  constructor(input: RoundInput) {
    const { config, selected, closed } = input;
    const reported = closed && new Set(closed.reported);
    this.#input = input;
    this.#sum = openRound(input);
    this.#asked = reported ? selected.filter(({ id }) => reported.has(id)) : selected;
    this.#rule = closingRule(closed ? {} : config.closing, this.#asked.length);
    this.#fits = new ClientFits(input, this.#sum, this.#asked, {
      closing: this.#closing.signal,
      granted: () => this.#closeIfEnough(),
      counted: (client, fit, isRestored) => {
        this.#reports.set(client.id, { message: fit.message, ...this.#bytesOf(client) });
        input.onFit?.(client, fit, isRestored);
        this.#closeIfEnough();
      },
    });
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
      await this.#fits.restoreSums();
      await Promise.race([Promise.all(this.#asked.map((client) => this.#fitOrFail(client))), isClosed]);
    } finally {
      clearTimeout(timer);
    }
    await this.#fits.settled();
    const counts = { asked: this.#asked.length, reported: this.#reports.size };
    if (counts.reported < quorum) throw quorumError(this.#input.round, this.#rule, counts, this.#failures);
    const { round, span = NO_SPAN } = this.#input;
    this.#input.onGathered?.();
    return this.#summarise(await span.during("prelort.aggregation", { "prelort.round": round }, () => this.#sum.finish()));
  }

  async #fitOrFail(client: RankedClient): Promise<void> {
    try {
      if (!this.#reports.has(client.id)) await this.#fits.fit(client);
    } catch (error) {
      if (this.#closing.signal.aborted || this.#reports.has(client.id)) return;
      if (!isClientFailure(error)) throw error;
      this.#failures.set(client.id, error as Error);
    }
  }

  #bytesOf(client: RankedClient): Pick<Report, "up" | "down"> {
    const { round, layout, history, config } = this.#input;
    const received = this.#sum.received(client);
    const { rows, dense } = encodingOf(received);
    const missed = missedBytes(received, layout, round, history.get(client.id));
    const update = WIRE_DTYPES[config.wire.update];
    const state = encodedBytes("F32", stateLengthIn(config, layout, client.r));
    return {
      down: rows.bytes.length + dense.bytes.length + missed + (history.has(client.id) ? state : 0),
      up: encodedBytes(update, rows.length) + encodedBytes(update, dense.length) + state,
    };
  }

  #closeIfEnough(): void {
    const state = { asked: this.#asked.length, reported: this.#reports.size, isDue: this.#isDue };
    // What is granted counts once its sum has arrived.
    if (closesEarly(this.#rule, { ...state, reported: state.reported + this.#fits.granted })) this.#fits.collect();
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
      steps: config.fit.epochs === undefined ? undefined : total(({ message }) => message.steps),
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

/** Bytes of the merged components that the client lacks: since it last had them, or all of an acting tail. */
function missedBytes({ merged }: Adapter, { width }: AdapterLayout, round: number, last: ClientHistory | undefined): number {
  if (!merged) return 0;
  if (merged.ends.length === 0) return merged.rows.byteLength;
  const missed = (merged.ends[round - 1] ?? 0) - (merged.ends[(last?.round ?? 1) - 1] ?? 0);
  return missed * width * Float32Array.BYTES_PER_ELEMENT;
}

/** The figures of a round's training. */
export function trainedMetrics(outcome: RoundOutcome): TrainedMetrics {
  const { coverage, fitLoss, gradNorm, reported, failed, late, passes, steps, bytesDown, bytesUp } = outcome;
  const asked = { ...(gradNorm !== undefined && { gradNorm }), ...(steps !== undefined && { steps }) };
  return { coverage, fitLoss, ...asked, reported, failed, late, passes, bytesDown, bytesUp };
}
