import { existsSync } from "node:fs";
import path from "node:path";
import type { Adapter } from "../adapter/adapter.ts";
import { energy } from "../adapter/energy.ts";
import { encodeGlobal } from "../adapter/global-file.ts";
import { segments } from "../adapter/segments.ts";
import { describeConfig, validateRun } from "../config/build.ts";
import { snakeKeys } from "../config/case.ts";
import type { RunConfig, RunInput } from "../config/schema.ts";
import { InterruptedError } from "../errors.ts";
import type { ClientHistory, RankedClient, SelectionContext, ServerState } from "../strategy/strategy.ts";
import type { WorkerLauncher } from "../workers/launch.ts";
import { packageVersion } from "../workers/python.ts";
import type { TaskFailure } from "../workers/task.ts";
import { candidateLosses, evaluateRound } from "./evaluate.ts";
import { createEventStream } from "./event-stream.ts";
import type { RoundMetrics, RunEvent } from "./events.ts";
import { describeMethod } from "./method.ts";
import { type RunResult, savePretrained } from "./result.ts";
import { type RoundOutcome, runRound, selectClients } from "./round.ts";
import { createRunDirectory, type RunDirectory } from "./run-directory.ts";
import { openSession, type Session } from "./session.ts";

export interface FederateOptions extends RunInput {
  /** Stops the run: workers end, committed rounds stay, `result` rejects with an InterruptedError. */
  readonly signal?: AbortSignal | undefined;
  /** Replace an earlier run of the same name. */
  readonly overwrite?: boolean | undefined;
  /** How workers are started; Python processes on this machine by default. */
  readonly launcher?: WorkerLauncher | undefined;
}

/** A run that is under way: iterate over its events (one reader), or await its result, or both. */
export interface Run extends AsyncIterable<RunEvent> {
  readonly result: Promise<RunResult>;
}

/**
 * Runs a federation: starts workers, trains for `rounds` server rounds, writes the run directory.
 *
 * Throws a ConfigError with every issue before anything starts. `result`, and the iteration, reject with
 * EnvironmentError (Python or data missing), WorkerError (no worker can work), RunFailedError or InterruptedError.
 */
export function federate(options: FederateOptions): Run {
  const { signal, overwrite, launcher, ...input } = options;
  const config = validateRun(input);
  const events = createEventStream<RunEvent>();
  const emit = (event: RunEvent) => events.push(event, event.type === "worker-status" ? event.workerId : undefined);

  const result = conduct({ config, overwrite, launcher, signal: signal ?? new AbortController().signal, emit });
  // Whoever only iterates gets the error there; the promise must not bring the process down as unhandled.
  result.then(
    () => events.end(),
    (error: unknown) => events.end(error),
  );
  return { result, [Symbol.asyncIterator]: () => events[Symbol.asyncIterator]() };
}

/** A round whose global adapter is on disk. */
interface Committed {
  readonly global: Adapter;
  /** With the ranks that they go on with. */
  readonly clients: readonly RankedClient[];
  readonly sha256: string;
}

interface Conduct {
  readonly config: RunConfig;
  readonly overwrite: boolean | undefined;
  readonly launcher: WorkerLauncher | undefined;
  readonly signal: AbortSignal;
  emit(event: RunEvent): void;
}

async function conduct(context: Conduct): Promise<RunResult> {
  const { config, signal, emit } = context;
  if (signal.aborted) throw new InterruptedError();
  const directory = await createRunDirectory({ runsDir: config.runsDir, name: config.name, overwrite: context.overwrite });
  try {
    const clock = stopwatch(directory);
    const session = await openSession({
      config,
      launcher: context.launcher,
      signal,
      logFolder: directory.file("workers"),
      listener: { failure: (failure) => recordFailure(failure, directory, emit) },
      emit,
    });
    try {
      clock.lap(0, "start");
      return await train(context, session, directory, clock);
    } finally {
      await session.close();
    }
  } catch (error) {
    const rounds = directory.file("rounds");
    if (!(error instanceof InterruptedError) || !existsSync(rounds)) throw error;
    throw new InterruptedError(`${error.message}; its committed rounds are kept in ${rounds}`, { cause: error });
  } finally {
    await directory.close();
  }
}

async function train({ config, signal, emit }: Conduct, session: Session, directory: RunDirectory, clock: Stopwatch): Promise<RunResult> {
  const { pool, layout, tiers, prepared } = session;
  const name = path.basename(directory.path);
  emit({ type: "run-start", name, directory: directory.path, rounds: config.rounds, tiers });
  await directory.writeRecord("run.json", describeRun(config, session, name));

  const ownExamples = new Map(prepared.clients.map((client) => [client.id, client.n_eval]));
  const evaluation = { config, pool, layout, evalExamples: prepared.n_eval, ownExamples };
  const metricsOfRounds: RoundMetrics[] = [];
  const history = new Map<string, ClientHistory>();
  let { clients } = session;
  let global = session.initial();
  /** What is evaluated and saved. */
  let presented = global;
  let state: ServerState = {};
  let sha256 = "";

  /** Evaluates a round's global adapter, which is on disk by then, and tells of the round. */
  const conclude = async (round: number, trained: TrainedMetrics, committed: Committed): Promise<void> => {
    const isEvaluated = round % config.evaluate.every === 0 || round === config.rounds;
    let quality: EvaluatedMetrics = NOTHING_EVALUATED;
    presented = committed.global;
    if (isEvaluated) {
      emit({ type: "evaluation-start", round });
      const shown = config.strategy.aggregation.present?.(committed.global, layout) ?? committed.global;
      presented = shown;
      quality = {
        ...(await evaluateRound(evaluation, round, { global: committed.global, presented: shown }, committed.clients)),
        energy: segments(tiers).map(({ from, to }) => ({ r: to, energy: energy(layout, shown.rows, from, to) })),
      };
    }
    const metrics: RoundMetrics = { round, ...quality, ...trained };
    metricsOfRounds.push(metrics);
    await directory.writeMetrics(snakeKeys(metrics));
    emit({ type: "round-end", round, metrics, sha256: committed.sha256 });
  };
  /** The round before is concluded while the clients of the next one train: its evaluation takes the workers that they leave free. */
  let concludeLast = async (): Promise<void> => {};

  emit({ type: "phase-start", phase: "train" });
  for (let round = 0; round <= config.rounds; round++) {
    if (signal.aborted) throw new InterruptedError();
    let trained: TrainedMetrics = NOTHING_TRAINED;
    if (round > 0) {
      const before = global;
      const losses: SelectionContext["losses"] = (candidates) => candidateLosses(evaluation, round, before, candidates);
      const selected = await selectClients(config, { round, clients, tiers, history, losses });
      const decided = selected.map(({ id, r }) => ({ id, r }));
      directory.journal.append({ type: "round", round, clients: decided });
      emit({ type: "round-start", round, clients: decided });
      const fits = runRound({
        round,
        config,
        pool,
        layout,
        global,
        state,
        history,
        selected,
        onFit: (client, { workerId, attempt, message }) => {
          directory.journal.append({ type: "fit", round, client_id: client.id, worker_id: workerId, attempt });
          emit({ type: "client-fit", round, clientId: client.id, r: client.r, workerId, loss: message.loss, seconds: message.seconds });
        },
      });
      const concluded = concludeLast();
      const outcome = await unlessFailed(fits, concluded);
      clock.lap(round, "fit");
      await concluded;
      clock.lap(round - 1, "evaluate");
      for (const [id, last] of outcome.history) history.set(id, last);
      clients = revise(clients, outcome.revised);
      global = outcome.global;
      state = outcome.state ?? {};
      trained = trainedMetrics(outcome);
    }
    sha256 = await directory.commitRound(round, { global: encodeGlobal(layout, global, round), state });
    clock.lap(round, "commit");
    const committed = { global, clients, sha256 };
    concludeLast = () => conclude(round, trained, committed);
  }
  await concludeLast();
  clock.lap(config.rounds, "evaluate");
  emit({ type: "phase-start", phase: "save" });
  const adapters = tiers.map((r) => directory.file("adapters", `r${r}`));
  for (const [place, folder] of adapters.entries()) await savePretrained(config, layout, presented, folder, tiers[place]);
  clock.lap(config.rounds, "save");
  directory.journal.append({ type: "end" });
  emit({ type: "run-end", directory: directory.path, adapters, sha256 });
  return {
    directory: directory.path,
    layout,
    adapter: presented,
    metrics: metricsOfRounds,
    sha256,
    savePretrained: (folder, { r } = {}) => savePretrained(config, layout, presented, folder, r),
  };
}

/** What work gives, or at once the error of what goes on beside it. */
function unlessFailed<T>(work: Promise<T>, beside: Promise<void>): Promise<T> {
  return Promise.race([work, beside.then(() => work)]);
}

/** The clients with the ranks that they go on with. */
function revise(clients: readonly RankedClient[], revised: ReadonlyMap<string, number>): readonly RankedClient[] {
  if (revised.size === 0) return clients;
  return clients.map((client) => ({ ...client, r: revised.get(client.id) ?? client.r }));
}

type EvaluatedMetrics = Pick<RoundMetrics, "byTier" | "merged" | "byClient" | "energy">;
type TrainedMetrics = Omit<RoundMetrics, "round" | keyof EvaluatedMetrics>;
const NOTHING_TRAINED: TrainedMetrics = { coverage: [], fitLoss: null, reported: [], failed: [], passes: 0, bytesDown: 0, bytesUp: 0 };
const NOTHING_EVALUATED: EvaluatedMetrics = { byTier: [], merged: null, byClient: [], energy: [] };

function trainedMetrics({ coverage, fitLoss, reported, failed, passes, bytesDown, bytesUp }: RoundOutcome): TrainedMetrics {
  return { coverage, fitLoss, reported, failed, passes, bytesDown, bytesUp };
}

/** What run.json holds: everything that decided the bytes, and what they were made with. No times. */
function describeRun(config: RunConfig, session: Session, name: string): unknown {
  const { prepared, layout, clients, environment } = session;
  return {
    name,
    prelort: packageVersion(),
    method: describeMethod(config),
    config: describeConfig(config),
    versions: { node: process.version, ...environment.versions },
    device: environment.device,
    index: prepared.index,
    labels: prepared.labels,
    eval_examples: prepared.n_eval,
    truncated_examples: prepared.n_truncated,
    clients: clients.map(({ id, size, r, labelCounts }) => ({ id, n: size, r, label_counts: labelCounts })),
    base_parameters: session.parameters,
    layout: snakeKeys(layout),
  };
}

function recordFailure(failure: TaskFailure, directory: RunDirectory, emit: (event: RunEvent) => void): void {
  const { taskId, attempt, workerId, error, willRetry } = failure;
  directory.journal.append({ type: "failure", task_id: taskId, attempt, worker_id: workerId, error: error.message, will_retry: willRetry });
  const [, round, clientId] = /^round-(\d+)\/fit\/(.+)$/.exec(taskId) ?? [];
  if (round !== undefined && clientId !== undefined) {
    emit({ type: "client-failure", round: Number(round), clientId, attempt, workerId, error: error.message, willRetry });
  }
}

interface Stopwatch {
  /** Writes what has passed since the last lap to timings.jsonl. */
  lap(round: number, phase: string): void;
}

function stopwatch(directory: RunDirectory): Stopwatch {
  let last = performance.now();
  return {
    lap(round, phase) {
      const now = performance.now();
      directory.timings.append({ round, phase, seconds: (now - last) / 1000 });
      last = now;
    },
  };
}
