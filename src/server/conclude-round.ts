import type { Adapter } from "../adapter/adapter.ts";
import { energy } from "../adapter/energy.ts";
import { segments } from "../adapter/segments.ts";
import { generatesText } from "../config/best-metric.ts";
import { type EvaluateContext, evaluateRound } from "./evaluate.ts";
import { type Judged, judge } from "../records/best-round.ts";
import type { EvaluatedMetrics, RoundMetrics, TrainedMetrics } from "../records/metrics.ts";
import { requireBestMetric } from "./require-best-metric.ts";
import { present } from "../strategy/validate-policy-output.ts";
import type { CommittedRound, RunContext } from "./run-context.ts";

const NOTHING_EVALUATED: EvaluatedMetrics = { byTier: [], merged: null, byClient: [], energy: [] };

/** Evaluates committed rounds, writes their metrics and reports them; each round only once. */
export class Concluder {
  readonly #context: RunContext;
  readonly #evaluation: EvaluateContext;
  readonly #metrics: Map<number, RoundMetrics>;
  readonly #concluding = new Map<number, Promise<void>>();
  /** The last round's adapter, as it was evaluated. */
  #presented: Adapter | undefined;

  constructor(context: RunContext, evaluation: EvaluateContext) {
    this.#context = context;
    this.#evaluation = evaluation;
    this.#metrics = new Map(context.resumed?.metrics.map((metrics) => [metrics.round, metrics]));
  }

  /** The metrics of every concluded round, in order. */
  get metrics(): readonly RoundMetrics[] {
    return [...this.#metrics.values()].toSorted((a, b) => a.round - b.round);
  }

  /** Which of them is the best, and why the run ends with the last of them, if it does: one that had ended keeps its reason. */
  get judged(): Judged {
    const { config, resumed } = this.#context;
    const judged = judge(config, config.evaluate.best ? this.metrics : []);
    return resumed?.hasEnded ? { ...judged, stopped: resumed.stopped } : judged;
  }

  /** Does nothing for a round whose metrics were written before the run was resumed. */
  conclude(committed: CommittedRound): Promise<void> {
    const { round } = committed;
    const begun = this.#concluding.get(round) ?? (this.#metrics.has(round) ? Promise.resolve() : this.#conclude(committed));
    this.#concluding.set(round, begun);
    return begun;
  }

  /** A committed round's adapter as an adapter of the base model. */
  present({ round, global }: CommittedRound): Adapter {
    const { config, session } = this.#context;
    if (round === config.rounds && this.#presented) return this.#presented;
    return present(config.strategy.aggregation, global, session.layout);
  }

  async #conclude(committed: CommittedRound): Promise<void> {
    const { config, directory, emit, rounds } = this.#context;
    const { round, trained, sha256 } = committed;
    const generates = generatesText(config, round);
    if (this.#isEvaluated(round)) emit({ type: "evaluation-start", round });
    let metrics: RoundMetrics = { round, ...(await this.#evaluate(committed, generates)), ...trained };
    requireBestMetric(config, metrics, this.#evaluation.isLanguage);
    this.#metrics.set(round, metrics);
    // It is the last round after all, whose text is generated too.
    if (this.judged.stopped?.round === round && !generates && config.evaluate.maxNewTokens > 0) {
      metrics = { ...metrics, ...(await this.#evaluate(committed, true)) };
      this.#metrics.set(round, metrics);
    }
    await directory.writeMetrics(metrics);
    const { best } = this.judged;
    emit({ type: "round-end", round, metrics, sha256, ...(best && { best }) });
    const { reported, failed, late } = trained;
    rounds.end(round, { "prelort.reported": reported.length, "prelort.failed": failed.length, "prelort.late": late.length });
    if (round > 0) this.#count(trained);
  }

  #count({ bytesDown, bytesUp }: TrainedMetrics): void {
    const { meters } = this.#context;
    meters.count("prelort.rounds", 1);
    meters.count("prelort.client.io", bytesDown, { "network.io.direction": "transmit" });
    meters.count("prelort.client.io", bytesUp, { "network.io.direction": "receive" });
  }

  #isEvaluated(round: number): boolean {
    const { config } = this.#context;
    return round % config.evaluate.every === 0 || round === config.rounds;
  }

  async #evaluate(committed: CommittedRound, generates: boolean): Promise<EvaluatedMetrics> {
    const { config, session, rounds } = this.#context;
    const { round, global, state, clients } = committed;
    if (!this.#isEvaluated(round)) return NOTHING_EVALUATED;
    const presented = this.present(committed);
    if (round === config.rounds) this.#presented = presented;
    return {
      ...(await rounds
        .of(round)
        .during("prelort.evaluation", { "prelort.round": round }, (span) =>
          evaluateRound({ ...this.#evaluation, span }, round, { global, presented, state, generates }, clients),
        )),
      energy: segments(session.tiers).map(({ from, to }) => ({ r: to, energy: energy(session.layout, presented.rows, from, to) })),
    };
  }
}
