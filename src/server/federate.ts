import { existsSync } from "node:fs";
import path from "node:path";
import { setImmediate } from "node:timers/promises";
import { z } from "zod";
import type { Adapter } from "../adapter/adapter.ts";
import { energy } from "../adapter/energy.ts";
import { decodeGlobal, encodeGlobal } from "../adapter/global-file.ts";
import { isLanguage } from "../adapter/peft.ts";
import { segments } from "../adapter/segments.ts";
import { describeConfig, validateRun } from "../config/build.ts";
import { snakeKeys } from "../config/case.ts";
import type { RunConfig, RunInput } from "../config/schema.ts";
import { ConfigError, InterruptedError, PrelortError } from "../errors.ts";
import type { RankedClient, SelectionContext, ServerState } from "../strategy/strategy.ts";
import type { WorkerLauncher } from "../workers/launch.ts";
import { packageVersion } from "../workers/python.ts";
import type { TaskFailure } from "../workers/task.ts";
import { hasAdapter, writeAdapterFolder } from "./adapter-folder.ts";
import { candidateLosses, evaluateRound } from "./evaluate.ts";
import { changedDataFiles, DATA_FILES, listDataFiles } from "./data-files.ts";
import { createEventStream, type EventStream } from "./event-stream.ts";
import type { RoundMetrics, RunEvent } from "./events.ts";
import type { Commit, TrainedMetrics } from "./journal.ts";
import { describeDoubts, describeMethod } from "./method.ts";
import { baseFiles, describeSource, recordedModel } from "./model-source.ts";
import { rememberCode } from "./named-code.ts";
import { type Origin, originOf } from "./origin.ts";
import { requireAllRounds } from "./past.ts";
import { present } from "./present.ts";
import type { RunResult } from "./result.ts";
import { type RoundOutcome, runRound, selectClients } from "./round.ts";
import { createRunDirectory, type ReopenedDirectory, reopenRunDirectory, type RunDirectory } from "./run-directory.ts";
import { GLOBAL, roundFile } from "./round-files.ts";
import { peftIdentity, requireReady } from "./run-record.ts";
import { type Difference, requireSameRun } from "./same-run.ts";
import { saveTrained, type Trained } from "./save.ts";
import { openSession, type Session } from "./session.ts";
import { createSpool } from "./spool.ts";

export interface FederateOptions extends RunInput {
  /** Stops the run: workers end, committed rounds stay, `result` rejects with an InterruptedError. */
  readonly signal?: AbortSignal | undefined;
  /** Replace an earlier run of the same name. */
  readonly overwrite?: boolean | undefined;
  /**
   * Go on with the run of this name from its last committed round, to the same bytes as if it had never stopped. Only `workers`
   * (but for `threads`), `recordUpdates` and `spoolBytes` may differ from what it was started with.
   */
  readonly resume?: boolean | undefined;
  /** How workers are started; Python processes on this machine by default. */
  readonly launcher?: WorkerLauncher | undefined;
}

/**
 * A run that is under way: iterate over its events, or await its result, or both.
 *
 * Any number of loops may iterate, each from the start: over every event of a run of up to 100,000 of them (the latest 100,000 of
 * a longer one), of which `worker-status` counts as one a worker, its latest. The last event is `run-end`, or `run-failed`, after
 * which the iteration rejects with the error. Leaving a loop with `break` ends that loop alone: the run goes on, and nothing is
 * kept for it. A `signal` stops the run.
 */
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
  const { signal, overwrite, resume, launcher, ...input } = options;
  const config = validateRun(input);
  if (resume && config.name === undefined) throw new ConfigError([{ path: "name", message: "is needed: it tells which run to resume" }]);
  const events = createEventStream<RunEvent>();
  const emit = (event: RunEvent) => events.push(event, event.type === "worker-status" ? event.workerId : undefined);

  const result = conduct({ config, overwrite, resume, launcher, signal: signal ?? new AbortController().signal, emit });
  // Whoever only iterates gets the error there; the promise must not bring the process down as unhandled.
  void tellEnd(result, events, emit);
  return { result, [Symbol.asyncIterator]: () => events[Symbol.asyncIterator]() };
}

/** The last event, once the run is over. */
async function tellEnd(result: Promise<RunResult>, events: EventStream<RunEvent>, emit: Conduct["emit"]): Promise<void> {
  try {
    const { directory, layout, sha256 } = await result;
    emit({ type: "run-end", directory, adapters: layout.tiers.map((r) => path.join(directory, "adapters", `r${r}`)), sha256 });
    events.end();
  } catch (error) {
    emit({ type: "run-failed", kind: error instanceof PrelortError ? error.kind : null, error: messageOf(error) });
    events.end(error);
  }
}

/** What an earlier life of the run left, and in what this one differs from it. */
type Past = Pick<ReopenedDirectory, "commits" | "closed" | "metrics" | "unmeasured" | "remarks" | "readGlobal" | "readState" | "file"> & {
  readonly differences: readonly Difference[];
};

/** A round whose global adapter is on disk. */
interface Committed {
  readonly round: number;
  readonly global: Adapter;
  readonly state: ServerState;
  /** With the ranks that they go on with. */
  readonly clients: readonly RankedClient[];
  readonly trained: TrainedMetrics;
  /** Clients that are selected no more, from this round on. */
  readonly setAside: readonly string[];
  readonly sha256: string;
}

interface Conduct {
  readonly config: RunConfig;
  readonly overwrite: boolean | undefined;
  readonly resume: boolean | undefined;
  readonly launcher: WorkerLauncher | undefined;
  readonly signal: AbortSignal;
  emit(event: RunEvent): void;
}

async function conduct(context: Conduct): Promise<RunResult> {
  const { config, signal, emit } = context;
  const { runsDir, name = "" } = config;
  if (signal.aborted) throw new InterruptedError();
  // Before anything is made, or replaced.
  const chosen = context.resume ? undefined : await originOf(config);
  const past = context.resume ? await reopenRunDirectory(path.resolve(runsDir, name)) : undefined;
  const directory = past ?? (await createRunDirectory({ runsDir, name: config.name, overwrite: context.overwrite }));
  const { copyOf } = directory;
  if (copyOf) {
    const { folder, host, pid } = copyOf;
    emit({ type: "folder-copied", directory: directory.path, copyOf: { directory: folder, host, pid } });
  }
  try {
    const origin = past ? await originOf(config, past.record) : chosen;
    const begun = describeRun(config, path.basename(directory.path), origin);
    if (past) requireSameRun(past.record, begun);
    else await directory.writeRecord("run.json", begun);
    if (past) requireAllRounds(past.path, past, config.rounds);
    if (past?.hasEnded && past.unmeasured.length === 0) return await showEnded(context, past);
    await rememberCode(config);
    const clock = stopwatch(directory);
    const session = await openSession({
      config,
      origin,
      launcher: context.launcher,
      signal,
      logFolder: directory.file("workers"),
      listener: {
        failure: (failure) => recordFailure(failure, directory, emit),
        givenUp: ({ workerId, device, error }) => emit({ type: "worker-given-up", workerId, device, error: error.message }),
      },
      emit,
    });
    try {
      clock.lap(0, "start");
      const record = { ...begun, ...describeSession(session) };
      const dataFiles = await listDataFiles(session.prepared);
      const changedData = past ? await changedDataFiles(directory.file(DATA_FILES), dataFiles) : [];
      const differences = past ? requireSameRun(past.record, record, changedData) : [];
      if (past) directory.journal.append({ type: "resume", after: past.commits.length - 1, differences });
      // What a run that was killed in its start has not recorded.
      if (!past || past.commits.length === 0) {
        if (dataFiles) await directory.writeRecord(DATA_FILES, dataFiles);
        await directory.writeRecord("run.json", record);
      }
      return await train(context, session, directory, past && { ...past, differences }, clock);
    } finally {
      await session.close();
    }
  } catch (error) {
    const rounds = directory.file("rounds");
    if (!(error instanceof InterruptedError) || !existsSync(rounds)) throw error;
    const remedy = `its committed rounds are kept: go on with prelort resume ${path.relative(".", directory.path)}`;
    throw new InterruptedError(`${error.message}; ${remedy}`, { cause: error });
  } finally {
    await directory.close();
  }
}

async function train(
  { config, signal, emit }: Conduct,
  session: Session,
  directory: RunDirectory,
  past: Past | undefined,
  clock: Stopwatch,
): Promise<RunResult> {
  const { pool, layout, tiers, prepared, peft } = session;
  const { aggregation } = config.strategy;
  const spool = createSpool({
    folder: directory.file("updates"),
    isRecorded: config.recordUpdates,
    isRead: aggregation.readsSpool ?? false,
    maxBytes: config.spoolBytes,
  });

  const ownExamples = new Map(prepared.clients.map((client) => [client.id, client.n_eval]));
  const evaluation = { config, pool, layout, isLanguage: isLanguage(peft), evalExamples: prepared.n_eval, ownExamples };
  const metricsOfRounds: RoundMetrics[] = [...(past?.metrics ?? [])];

  /** The last one, as it was evaluated. */
  let shown: Adapter | undefined;

  /** Evaluates a round's global adapter, which is on disk by then, and tells of the round. */
  const conclude = async ({ round, global, clients, trained, sha256 }: Committed): Promise<void> => {
    const isEvaluated = round % config.evaluate.every === 0 || round === config.rounds;
    let quality: EvaluatedMetrics = NOTHING_EVALUATED;
    if (isEvaluated) {
      emit({ type: "evaluation-start", round });
      const presented = present(aggregation, global, layout);
      if (round === config.rounds) shown = presented;
      quality = {
        ...(await evaluateRound(evaluation, round, { global, presented }, clients)),
        energy: segments(tiers).map(({ from, to }) => ({ r: to, energy: energy(layout, presented.rows, from, to) })),
      };
    }
    const metrics: RoundMetrics = { round, ...quality, ...trained };
    metricsOfRounds.push(metrics);
    metricsOfRounds.sort((a, b) => a.round - b.round);
    await directory.writeMetrics(metrics);
    emit({ type: "round-end", round, metrics, sha256 });
  };
  const commit = async (made: Omit<Committed, "sha256">): Promise<Committed> => {
    const { round, global, state, trained, setAside, clients } = made;
    const rankOf = new Map(clients.map(({ id, r }) => [id, r]));
    const sha256 = await directory.commitRound({
      round,
      global: encodeGlobal(layout, global, round),
      state,
      trained,
      setAside,
      clients: trained.reported.map((id) => ({ id, r: rankOf.get(id) ?? 0, rmsLoss: history.get(id)?.rmsLoss ?? null })),
    });
    clock.lap(round, "commit");
    return { ...made, sha256 };
  };

  emit(runStart(config, directory, tiers, past));
  emit({ type: "phase-start", phase: "train" });
  const history = new Map(
    past?.commits.flatMap(({ round, clients }) => clients.map(({ id, rmsLoss }) => [id, { round, rmsLoss }] as const)),
  );
  const aside = new Set(past?.commits.flatMap(({ setAside }) => setAside));
  let last =
    (past && (await restore(past, session.clients, past.commits.length - 1))) ??
    (await commit({
      round: 0,
      global: await session.initial(),
      state: {},
      clients: session.clients,
      setAside: [],
      trained: NOTHING_TRAINED,
    }));
  /** The round before is concluded while the clients of the next one train: its evaluation takes the workers that they leave free. */
  let isConcluded = metricsOfRounds.at(-1)?.round === last.round;
  for (const round of past?.unmeasured ?? []) {
    const before = past && round < last.round ? await restore(past, session.clients, round) : undefined;
    if (before) await conclude(before);
  }
  while (last.round < config.rounds) {
    if (signal.aborted) throw new InterruptedError();
    const before: Committed = last;
    const round = before.round + 1;
    const { clients, global, state } = before;
    const closed = past?.closed?.round === round ? past.closed : undefined;
    let concluding = isConcluded ? Promise.resolve() : undefined;
    const concludeBefore = () => (concluding ??= conclude(before));
    let outcome: RoundOutcome;
    try {
      const losses: SelectionContext["losses"] = (candidates) => candidateLosses(evaluation, round, global, candidates);
      const chosen = await selectClients(config, { round, clients, tiers, history, losses });
      const selected = chosen.filter(({ id }) => !aside.has(id));
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
        spool: await spool.open(round, before.sha256),
        closed,
        onLate: (client, { workerId }) => directory.journal.append({ type: "late", round, client_id: client.id, worker_id: workerId }),
        onFit: (client, { workerId, attempt, message }, isRestored) => {
          directory.journal.append({ type: "fit", round, client_id: client.id, worker_id: workerId, attempt, is_restored: isRestored });
          emit({ type: "client-fit", round, clientId: client.id, r: client.r, workerId, loss: message.loss, seconds: message.seconds });
        },
      });
      // What it computes itself must not keep the first fits from going out.
      outcome = await unlessFailed(fits, setImmediate().then(concludeBefore));
    } catch (error) {
      // The figures of a round that is committed do not depend on what becomes of the next.
      if (!(error instanceof InterruptedError)) await concludeBefore().catch(() => {});
      throw error;
    }
    clock.lap(round, "fit");
    await concludeBefore();
    clock.lap(before.round, "evaluate");
    isConcluded = false;
    const { reported, failed, late, deadly } = outcome;
    const setAside = closed?.setAside ?? [...deadly.keys()];
    directory.journal.append({ type: "close", ...(snakeKeys({ round, reported, failed, late, setAside }) as object) });
    for (const [id, report] of outcome.history) history.set(id, report);
    for (const clientId of setAside) {
      aside.add(clientId);
      emit({ type: "client-set-aside", round, clientId, error: deadly.get(clientId)?.message ?? "in an earlier life of the run" });
    }
    last = await commit({
      round,
      global: outcome.global,
      state: outcome.state ?? {},
      clients: revise(clients, outcome.revised),
      trained: trainedMetrics(outcome),
      setAside,
    });
  }
  if (!isConcluded) await conclude(last);
  clock.lap(config.rounds, "evaluate");
  emit({ type: "phase-start", phase: "save" });
  const adapter = shown ?? present(aggregation, last.global, layout);
  for (const r of tiers) {
    await writeAdapterFolder(directory.file("adapters", `r${r}`), { config, peft, layout, adapter, r, dtype: "f32" });
  }
  clock.lap(config.rounds, "save");
  await spool.clear();
  directory.journal.append({ type: "end" });
  await directory.journal.flush();
  const { round, sha256, global } = last;
  const { labels } = prepared;
  const base = baseFiles(describeSource(session.loaded.source).model);
  return resultOf(config, directory, { round, sha256, peft, base, labels, layout, global, presented: adapter }, metricsOfRounds);
}

/** A run that is resumed after its end: what it left, without any worker. Adapters that somebody removed are written again. */
async function showEnded({ config, emit }: Conduct, past: ReopenedDirectory): Promise<RunResult> {
  const { peft, labels, model } = requireReady(past.path, past.record, endedRecord);
  const { round, sha256 } = past.commits.at(-1) as Commit;
  const { layout, adapter: global } = decodeGlobal(await past.readGlobal(round), past.file(roundFile(round, GLOBAL)));
  const presented = present(config.strategy.aggregation, global, layout);
  emit(runStart(config, past, layout.tiers, { ...past, differences: [] }));
  for (const r of layout.tiers) {
    const folder = past.file("adapters", `r${r}`);
    if (hasAdapter(folder)) continue;
    await writeAdapterFolder(folder, { config, peft, layout, adapter: presented, r, dtype: "f32" });
  }
  return resultOf(config, past, { round, sha256, peft, base: baseFiles(model), labels, layout, global, presented }, past.metrics);
}

const endedRecord = z.object({ labels: z.array(z.string()), peft: peftIdentity, model: recordedModel });

function runStart(config: RunConfig, { path: root }: RunDirectory, tiers: readonly number[], past: Past | undefined): RunEvent {
  const known = past && {
    after: past.commits.length - 1,
    metrics: past.metrics,
    differences: past.differences,
    remarks: past.remarks,
  };
  const start = { type: "run-start", name: path.basename(root), directory: root, rounds: config.rounds, tiers } as const;
  return known ? { ...start, resumed: known } : start;
}

function resultOf(
  config: RunConfig,
  { path: directory }: RunDirectory,
  made: Omit<Trained, "run" | "config">,
  metrics: readonly RoundMetrics[],
): RunResult {
  const { layout, presented: adapter, sha256 } = made;
  const trained = { run: path.basename(directory), config, ...made };
  return { directory, layout, adapter, metrics, sha256, savePretrained: (folder, options) => saveTrained(trained, folder, options) };
}

/** A round that an earlier life of the run committed, with the clients' ranks as they were then; undefined if there is none. */
async function restore(past: Past, clients: readonly RankedClient[], number: number): Promise<Committed | undefined> {
  const commit = past.commits[number];
  if (!commit) return undefined;
  const { round, sha256, trained, setAside } = commit;
  const { adapter } = decodeGlobal(await past.readGlobal(round), past.file(roundFile(round, GLOBAL)));
  const earlier = past.commits.slice(0, number + 1);
  const ranks = new Map(earlier.flatMap((entry) => entry.clients.map(({ id, r }) => [id, r])));
  return { round, sha256, trained, setAside, global: adapter, state: await past.readState(round), clients: revise(clients, ranks) };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
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
const NOTHING_TRAINED: TrainedMetrics = {
  coverage: [],
  fitLoss: null,
  reported: [],
  failed: [],
  late: [],
  passes: 0,
  bytesDown: 0,
  bytesUp: 0,
};
const NOTHING_EVALUATED: EvaluatedMetrics = { byTier: [], merged: null, byClient: [], energy: [] };

function trainedMetrics({ coverage, fitLoss, reported, failed, late, passes, bytesDown, bytesUp }: RoundOutcome): TrainedMetrics {
  return { coverage, fitLoss, reported, failed, late, passes, bytesDown, bytesUp };
}

/** What run.json holds: everything that decided the bytes, and what they were made with. No times. */
function describeRun(config: RunConfig, name: string, origin: Origin | undefined): object {
  return {
    name,
    prelort: packageVersion(),
    method: describeMethod(config),
    doubts: describeDoubts(config),
    config: describeConfig(config),
    init_from: origin ? snakeKeys(origin) : null,
  };
}

/** The part of it that is known once workers are up. */
function describeSession({ prepared, loaded, layout, clients, environment, parameters, peft, leftOut }: Session): object {
  return {
    versions: { node: process.version, ...environment.versions },
    variables: environment.variables,
    device: snakeKeys(environment.device),
    ...describeSource(loaded.source),
    data: { sha256: prepared.data_sha256 },
    index: prepared.index,
    labels: prepared.labels,
    eval_examples: prepared.n_eval,
    truncated_examples: prepared.n_truncated,
    remarks: prepared.remarks,
    clients: clients.map(({ id, size, r, labelCounts }, place) => ({
      id,
      n: size,
      r,
      label_counts: labelCounts,
      mix: prepared.clients[place]?.mix ?? [],
      tokens: prepared.clients[place]?.n_tokens ?? 0,
    })),
    base_parameters: parameters,
    layout: snakeKeys(layout),
    peft: snakeKeys(peft),
    left_out: leftOut,
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
