import type { Attributes, Span } from "../telemetry/telemetry.ts";

/** The spans of rounds under way. A round's ends once it is evaluated, which is while the next one trains. */
export class RoundSpans {
  readonly #run: Span;
  readonly #begun = new Map<number, Span>();

  constructor(run: Span) {
    this.#run = run;
  }

  /** Begins it at the first call. */
  of(round: number): Span {
    const span = this.#begun.get(round) ?? this.#run.begin("prelort.round", { "prelort.round": round });
    this.#begun.set(round, span);
    return span;
  }

  end(round: number, attributes: Attributes): void {
    this.of(round).set(attributes);
    this.of(round).end();
    this.#begun.delete(round);
  }
}
