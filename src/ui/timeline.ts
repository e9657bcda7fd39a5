import type { LiveEvent, Outcome, Span, TimelineData } from "./messages.ts";

/*
 * When each worker did what, from a run's events. Runs in the server, for the events until a page opens, and in the page, for those
 * that follow: nothing here may import from Node.
 */

/** Time shown between the last event before a resume and the first after it, whatever passed meanwhile. */
const BREAK_MS = 1000;

type Mutable = { -readonly [K in keyof TimelineData]: TimelineData[K] extends readonly (infer T)[] ? T[] : TimelineData[K] };

export class Timeline {
  readonly data: Mutable;
  #isFirst: boolean;
  /** The span that each worker is in. */
  readonly #open = new Map<number, Span>();
  /** How often a client's fit failed in a round and was tried again. */
  readonly #failed = new Map<string, number>();
  /** The latest fit of a client on a worker, which an answer is looked up in. */
  readonly #latest = new Map<string, Span>();

  /** Continues from what another has gathered. */
  constructor(from?: TimelineData) {
    const { workers = [], spans = [], rounds = [], resumes = [], offset = 0, now = 0, dropped = 0 } = from ?? {};
    this.data = { workers: [...workers], spans: [], rounds: [...rounds], resumes: [...resumes], offset, now, dropped };
    this.#isFirst = offset === 0 && now === 0;
    for (const span of spans) {
      this.#begin(span);
      if (span.outcome === "retried") this.#countFailure(span.round, span.what);
    }
  }

  advance(event: LiveEvent): void {
    const { data } = this;
    if (this.#isFirst) data.offset = event.at;
    else if (event.type === "session-start") {
      this.#closeAll(data.now);
      data.offset = event.at - data.now - BREAK_MS;
      data.resumes.push(data.now + BREAK_MS);
    }
    this.#isFirst = false;
    const at = Math.max(0, event.at - data.offset);
    data.now = Math.max(data.now, at);
    switch (event.type) {
      case "round-start":
        data.rounds.push({ round: event.round, at });
        break;
      case "worker-status":
        this.#changeTask(event, at);
        break;
      case "client-fit":
        this.#answer({ ...event, at, outcome: "trained" });
        break;
      case "client-failure":
        if (event.round === null || event.clientId === null) break;
        this.#answer({ ...event, round: event.round, clientId: event.clientId, at, outcome: event.willRetry ? "retried" : "failed" });
        break;
      case "run-end":
      case "run-failed":
        this.#closeAll(at);
        break;
      case "session-start":
      case "worker-ready":
      case "round-end":
      case "early-stop":
        break;
    }
  }

  #changeTask(event: Extract<LiveEvent, { type: "worker-status" }>, at: number): void {
    const worker = this.#indexOf(event.workerId);
    const span = this.#spanOf(event, worker, at);
    const current = this.#open.get(worker);
    // Another activity of the same task.
    if (span && current && isSameTask(span, current)) return;
    this.#close(worker, at);
    if (span) this.#begin(span);
  }

  #spanOf({ state, activity, task }: Extract<LiveEvent, { type: "worker-status" }>, worker: number, from: number): Span | undefined {
    const other = { worker, isFit: false, attempt: 1, from, to: null, outcome: "other" } as const;
    if (state === "starting") return { ...other, what: "start", round: null };
    if (state !== "busy") return undefined;
    const round = task?.round ?? null;
    if (task?.kind !== "fit" || task.clientId === null) return { ...other, what: task?.kind ?? activity, round };
    const attempt = (this.#failed.get(fitOf(round, task.clientId)) ?? 0) + 1;
    return { worker, what: task.clientId, isFit: true, round, attempt, from, to: null, outcome: "running" };
  }

  /** A fit whose worker's status was not recorded began as long before its answer as it took. */
  #answer(given: {
    readonly workerId: string;
    readonly round: number;
    readonly clientId: string;
    readonly at: number;
    readonly seconds?: number;
    readonly outcome: Outcome;
  }): void {
    const { round, clientId: what, at: to, seconds = 0, outcome } = given;
    const worker = this.#indexOf(given.workerId);
    const span = this.#latest.get(`${worker} ${fitOf(round, what)}`);
    const attempt = (this.#failed.get(fitOf(round, what)) ?? 0) + 1;
    if (span && (span.outcome === "running" || span.outcome === "stopped")) span.outcome = outcome;
    else if (outcome === "trained") {
      this.#begin({ worker, what, isFit: true, round, attempt, from: Math.max(0, to - 1000 * seconds), to, outcome });
    }
    if (outcome === "retried") this.#countFailure(round, what);
  }

  #countFailure(round: number | null, client: string): void {
    const fit = fitOf(round, client);
    this.#failed.set(fit, (this.#failed.get(fit) ?? 0) + 1);
  }

  #begin(span: Span): void {
    this.data.spans.push(span);
    if (span.to === null) this.#open.set(span.worker, span);
    if (span.isFit) this.#latest.set(`${span.worker} ${fitOf(span.round, span.what)}`, span);
  }

  /** A fit that ends without an answer was stopped, unless the answer comes yet. */
  #close(worker: number, at: number): void {
    const span = this.#open.get(worker);
    if (!span) return;
    span.to = Math.max(at, span.from);
    if (span.outcome === "running") span.outcome = "stopped";
    this.#open.delete(worker);
  }

  #closeAll(at: number): void {
    for (const worker of this.#open.keys()) this.#close(worker, at);
  }

  #indexOf(workerId: string): number {
    const known = this.data.workers.indexOf(workerId);
    return known >= 0 ? known : this.data.workers.push(workerId) - 1;
  }
}

/** Its data without all but the last spans. */
export function lastSpans(data: TimelineData, count: number): TimelineData {
  const dropped = Math.max(0, data.spans.length - count);
  return dropped === 0 ? data : { ...data, spans: data.spans.slice(dropped), dropped: data.dropped + dropped };
}

function isSameTask(a: Span, b: Span): boolean {
  return a.what === b.what && a.round === b.round && a.isFit === b.isFit && a.attempt === b.attempt && a.outcome === b.outcome;
}

function fitOf(round: number | null, client: string): string {
  return `${round} ${client}`;
}
