import { setImmediate } from "node:timers/promises";
import { encodeGlobal } from "../adapter/global-file.ts";
import { isLanguage } from "../adapter/peft.ts";
import { InterruptedError } from "../errors.ts";
import type { ClientHistory, RankedClient } from "../strategy/strategy.ts";
import type { ClientStates } from "./client-states.ts";
import { Concluder } from "./conclude-round.ts";
import { candidateLosses, type EvaluateContext } from "./evaluate.ts";
import { keepsRound } from "../records/kept-rounds.ts";
import { NOTHING_TRAINED } from "../records/metrics.ts";
import { baseFiles, describeSource } from "../records/model-source.ts";
import { createResult, type RunResult } from "./result.ts";
import { restoreRound, runStart } from "./resume.ts";
import { type RoundOutcome, runRound, trainedMetrics } from "./round.ts";
import { saveAdapters } from "./save-adapters.ts";
import { type CommittedRound, type RunContext, withRanks } from "./run-context.ts";
import { selectClients } from "./select-clients.ts";
import type { Span } from "../telemetry/telemetry.ts";
import { createStores } from "./stores.ts";
import type { RoundUpdates, UpdateStore } from "../records/update-store.ts";

/** Trains from the last committed round to the end of the run, and saves the adapters. */
export async function train(context: RunContext): Promise<RunResult> {
  return new Training(context).run();
}

class Training {
  readonly #context: RunContext;
  readonly #updates: UpdateStore;
  /** Undefined if the clients' optimizers are new for each fit. */
  readonly #states: ClientStates | undefined;
  readonly #evaluation: EvaluateContext;
  readonly #concluder: Concluder;
  /** What selection knows about the clients that have reported. */
  readonly #history: Map<string, ClientHistory>;
  /** Clients whose fits killed their workers: never selected again. */
  readonly #quarantined: Set<string>;
  /** SHA-256 of each committed round's adapter. */
  readonly #hashes: Map<number, string>;
  /** The round that was last waited for. */
  #timed = -1;

  constructor(context: RunContext) {
    const { config, session, directory, resumed } = context;
    const { pool, layout, prepared, columns, peft } = session;
    this.#context = context;
    const evalExamples = prepared.n_eval;
    const labels = prepared.labels.length;
    this.#evaluation = { config, pool, layout, labels, isLanguage: isLanguage(peft), evalExamples, ownExamples: columns.nEval };
    this.#concluder = new Concluder(context, this.#evaluation);
    this.#history = new Map(
      resumed?.commits.flatMap(({ round, clients }) => clients.map(({ id, rmsLoss }) => [id, { round, rmsLoss }] as const)),
    );
    this.#hashes = new Map(resumed?.commits.map(({ round, sha256 }) => [round, sha256]));
    ({ updates: this.#updates, states: this.#states } = createStores(config, directory, { history: this.#history, hashes: this.#hashes }));
    this.#quarantined = new Set(resumed?.commits.flatMap(({ setAside }) => setAside));
  }

  async run(): Promise<RunResult> {
    const { config, session, directory, resumed, emit } = this.#context;
    emit(runStart(config, directory, session.tiers, resumed));
    emit({ type: "phase-start", phase: "train" });
    let last = (resumed && (await restoreRound(resumed, session, resumed.commits.length - 1))) ?? (await this.#begin());
    await this.#evaluateAgain(last);
    while (last.round < config.rounds && !(await this.#stopsAfter(last))) last = await this.#trainRound(last);
    await this.#conclude(last);
    const { best, stopped } = this.#concluder.judged;
    if (stopped) emit({ type: "early-stop", ...stopped, ...(best && { best }) });
    return this.#save(last);
  }

  /** Whether the run ends early. Where it may, a round is evaluated before the next one is trained. */
  async #stopsAfter(last: CommittedRound): Promise<boolean> {
    const { stopped, mayStop } = this.#concluder.judged;
    if (stopped || !mayStop || last.round === 0) return stopped !== undefined;
    await this.#conclude(last);
    return this.#concluder.judged.stopped !== undefined;
  }

  /** Waits for a round's metrics; takes the time once. */
  async #conclude(committed: CommittedRound): Promise<void> {
    await this.#concluder.conclude(committed);
    if (committed.round > this.#timed) this.#context.clock.lap(committed.round, "evaluate");
    this.#timed = committed.round;
  }

  /** Round 0, before training. */
  async #begin(): Promise<CommittedRound> {
    const { session, rounds } = this.#context;
    rounds.of(0);
    const global = await session.initial();
    return this.#commit({ round: 0, global, state: {}, clients: session.clients, setAside: [], trained: NOTHING_TRAINED });
  }

  /** Earlier rounds whose metrics are missing. */
  async #evaluateAgain(last: CommittedRound): Promise<void> {
    const { resumed, session } = this.#context;
    for (const round of resumed?.unmeasured ?? []) {
      const before = resumed && round < last.round ? await restoreRound(resumed, session, round) : undefined;
      if (before) await this.#concluder.conclude(before);
    }
  }

  /** Evaluates the previous round while this round's clients train, on workers that their fits leave free. */
  async #trainRound(before: CommittedRound): Promise<CommittedRound> {
    const { signal, session, resumed, clock, rounds } = this.#context;
    if (signal.aborted) throw new InterruptedError();
    const round = before.round + 1;
    const closed = resumed?.closed?.round === round ? resumed.closed : undefined;
    const concludeBefore = () => this.#concluder.conclude(before);
    let outcome: RoundOutcome;
    try {
      const selected = await rounds
        .of(round)
        .during("prelort.selection", { "prelort.round": round }, (span) => this.#select(round, before, span));
      clock.lap(round, "select");
      this.#states?.requireFor(round, selected, before.clients);
      const fits = this.#fitAll(round, before, selected, await this.#updates.open(round, before.sha256));
      // Started later, so that its own computations do not delay the first fits.
      outcome = await unlessFailed(fits, setImmediate().then(concludeBefore));
    } catch (error) {
      // A committed round gets its metrics even if the next round fails.
      if (!(error instanceof InterruptedError)) await concludeBefore().catch(() => {});
      throw error;
    }
    clock.lap(round, "aggregate");
    await this.#conclude(before);
    const setAside = closed?.setAside ?? [...outcome.poison.keys()];
    this.#close(round, outcome, setAside);
    return this.#commit({
      round,
      global: outcome.global,
      state: outcome.state ?? {},
      clients: withRanks(before.clients, session.columns, outcome.revised),
      trained: trainedMetrics(outcome),
      setAside,
    });
  }

  async #select(round: number, last: CommittedRound, span: Span): Promise<readonly RankedClient[]> {
    const { config, session, directory, emit } = this.#context;
    const chosen = await selectClients(config, {
      round,
      clients: last.clients,
      indexOf: session.columns.indexOf,
      tiers: session.tiers,
      history: this.#history,
      losses: (candidates) => candidateLosses({ ...this.#evaluation, span }, round, last, candidates),
    });
    const selected = chosen.filter(({ id }) => !this.#quarantined.has(id));
    const decided = selected.map(({ id, r }) => ({ id, r }));
    directory.journal.append({ type: "round", round, clients: decided });
    emit({ type: "round-start", round, clients: decided });
    return selected;
  }

  #fitAll(
    round: number,
    { global, state, sha256 }: CommittedRound,
    selected: readonly RankedClient[],
    updates: RoundUpdates,
  ): Promise<RoundOutcome> {
    const { config, session, directory, resumed, emit, rounds, meters, clock } = this.#context;
    const { pool, layout } = session;
    return runRound({
      round,
      config,
      pool,
      layout,
      global,
      adapter: sha256,
      state,
      history: this.#history,
      selected,
      updates,
      span: rounds.of(round),
      closed: resumed?.closed?.round === round ? resumed.closed : undefined,
      onLate: (client, { workerId }) => directory.journal.append({ type: "late", round, clientId: client.id, workerId }),
      onFit: (client, { workerId, attempt, message }, isRestored) => {
        directory.journal.append({ type: "fit", round, clientId: client.id, workerId, attempt, isRestored });
        const { loss, seconds, peak_memory_bytes: peakMemoryBytes } = message;
        emit({ type: "client-fit", round, clientId: client.id, r: client.r, workerId, loss, seconds, peakMemoryBytes });
        if (isRestored) return;
        meters.count("prelort.fits", 1, { "prelort.rank": client.r });
        meters.record("prelort.fit.duration", seconds, { "prelort.rank": client.r });
      },
      onGathered: () => clock.lap(round, "fit"),
    });
  }

  #close(round: number, { reported, failed, late, poison, history }: RoundOutcome, setAside: readonly string[]): void {
    const { directory, emit } = this.#context;
    directory.journal.append({ type: "close", round, reported, failed, late, setAside });
    for (const [id, report] of history) this.#history.set(id, report);
    for (const clientId of setAside) {
      this.#quarantined.add(clientId);
      emit({ type: "client-set-aside", round, clientId, error: poison.get(clientId)?.message ?? "before the run was resumed" });
    }
  }

  async #commit(made: Omit<CommittedRound, "sha256">): Promise<CommittedRound> {
    const { session, directory, clock } = this.#context;
    const { round, global, state, trained, setAside, clients } = made;
    const rankOf = (id: string) => clients[session.columns.indexOf(id)]?.r ?? 0;
    const result = {
      round,
      global: encodeGlobal(session.layout, global, round),
      state,
      trained,
      setAside,
      clients: trained.reported.map((id) => ({ id, r: rankOf(id), rmsLoss: this.#history.get(id)?.rmsLoss ?? null })),
    };
    const sha256 = await directory.commitRound(result, this.#keeps(round));
    this.#hashes.set(round, sha256);
    await this.#states?.removeOthers();
    clock.lap(round, "commit");
    return { ...made, sha256 };
  }

  /** The rounds whose files stay, once `last` is committed. */
  #keeps(last: number): (round: number) => boolean {
    return keepsRound(this.#context.config.keepRounds, last, this.#concluder.judged.best?.round);
  }

  async #save(last: CommittedRound): Promise<RunResult> {
    const { config, session, directory, clock, emit } = this.#context;
    const { layout, peft, prepared, loaded } = session;
    const { round, sha256, global } = last;
    const { metrics, judged } = this.#concluder;
    const { best, stopped } = judged;
    emit({ type: "phase-start", phase: "save" });
    const presented = this.#concluder.present(last);
    const committed = best && { round: best.round, sha256: this.#hashes.get(best.round) ?? "" };
    await saveAdapters({ config, peft, layout, directory }, { last: { round, sha256, presented }, best: committed });
    clock.lap(round, "save");
    await this.#updates.clear();
    await directory.dropRounds(this.#keeps(round));
    directory.journal.append({ type: "end", ...(best && { best }), ...(stopped && { stopped }) });
    await directory.journal.flush();
    const base = baseFiles(describeSource(loaded.source).model);
    const trained = { round, sha256, peft, base, labels: prepared.labels, layout, global, presented };
    return createResult(config, directory, trained, { metrics, best, stopped });
  }
}

/** The result of `work`; rejects at once if what runs `beside` it fails. */
function unlessFailed<T>(work: Promise<T>, beside: Promise<void>): Promise<T> {
  return Promise.race([work, beside.then(() => work)]);
}
