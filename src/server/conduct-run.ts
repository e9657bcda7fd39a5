import { existsSync } from "node:fs";
import path from "node:path";
import type { RunConfig } from "../config/schema.ts";
import { InterruptedError, PrelortError } from "../errors.ts";
import { errorType } from "../telemetry/describe-error.ts";
import type { Meters, Span } from "../telemetry/telemetry.ts";
import type { WorkerLauncher } from "../workers/launch.ts";
import type { TaskFailure, WorkerHello } from "../workers/task.ts";
import { encodeClientTable } from "../records/client-table.ts";
import { readEvents } from "../records/event-log.ts";
import { changedDataFiles, DATA_FILES, listDataFiles } from "../records/data-files.ts";
import { describeClients, describeRun, describeSession } from "./describe-run.ts";
import type { NewEvent } from "./events.ts";
import type { RunEvents } from "./run-events.ts";
import { rememberCode } from "../records/named-code.ts";
import { adapterFolders } from "../artifacts/peft-folder.ts";
import { originOf } from "../artifacts/init-source.ts";
import { requireAllRounds } from "../records/resume-point.ts";
import { showEnded } from "./resume.ts";
import type { RunResult } from "./result.ts";
import { createRunDirectory, type ReopenedDirectory, reopenRunDirectory, type RunDirectory } from "../records/run-directory.ts";
import { type Difference, requireSameRun } from "../records/resume-check.ts";
import { openSession, type Session, type SessionOptions } from "./session.ts";
import { RoundSpans } from "./round-spans.ts";
import type { Origin, WrittenRecord } from "../records/run-record.ts";
import type { SharedPool } from "./shared-pool.ts";
import type { TrackerStatus } from "../track/delivery.ts";
import { prepareTracking, type Tracking } from "../track/tracking.ts";
import { createStopwatch } from "../records/timings.ts";
import { train } from "./train.ts";

/** What `federate` was called with. */
export interface RequestedRun {
  readonly config: RunConfig;
  readonly overwrite: boolean | undefined;
  readonly resume: boolean | undefined;
  readonly launcher: WorkerLauncher | undefined;
  readonly pool: SharedPool | undefined;
  readonly signal: AbortSignal;
  readonly events: RunEvents;
  /** Ends with the run. */
  readonly span: Span;
  readonly meters: Meters;
}

/** A run's folder, which this process holds. */
interface Claim {
  readonly directory: RunDirectory;
  /** Of a resumed run. */
  readonly reopened: ReopenedDirectory | undefined;
  /** The adapter that it starts from. */
  readonly origin: Origin | undefined;
}

/** Claims the run directory, starts the workers, trains, and closes everything. */
export async function conductRun(requested: RequestedRun): Promise<RunResult> {
  if (requested.signal.aborted) throw new InterruptedError();
  const { config, signal, events } = requested;
  // Checked before anything is created or replaced.
  const tell = (status: TrackerStatus) => events.emit({ type: "tracker-status", ...status });
  const tracking = await prepareTracking({ trackers: config.track, signal, tell });
  const claim = await claimDirectory(requested);
  const { directory } = claim;
  try {
    const result = await conductIn(claim, requested, tracking);
    await tracking.close("finished");
    events.conclude(runEnd(result));
    return result;
  } catch (error) {
    await tracking.close(error instanceof InterruptedError ? "killed" : "failed");
    const told = withRemedy(error, directory);
    events.conclude(runFailed(told));
    // What ended the run is told, not that it also kept a file from being written.
    await directory.close().catch(() => {});
    throw told;
  } finally {
    await directory.close();
  }
}

async function claimDirectory({ config, overwrite, resume, events }: RequestedRun): Promise<Claim> {
  const { runsDir, name = "" } = config;
  // Checked before anything is created or replaced.
  const origin = resume ? undefined : await originOf(config);
  const reopened = resume ? await reopenRunDirectory(path.resolve(runsDir, name)) : undefined;
  const directory = reopened ?? (await createRunDirectory({ runsDir, name: config.name, overwrite }));
  if (reopened) events.continueAfter(reopened.lastEvent);
  else events.recordIn(directory.events);
  events.claim((after, most) => readEvents(directory.path, after, most));
  const { copyOf } = directory;
  if (copyOf) {
    const { folder, host, pid } = copyOf;
    events.emit({ type: "folder-copied", directory: directory.path, copyOf: { directory: folder, host, pid } });
  }
  return { directory, reopened, origin };
}

async function conductIn({ directory, reopened, origin: chosen }: Claim, requested: RequestedRun, tracking: Tracking): Promise<RunResult> {
  const { config, signal, events, span } = requested;
  const { emit } = events;
  const name = path.basename(directory.path);
  const meters = requested.meters.having({ "prelort.run.name": name });
  span.set({ "prelort.run.name": name });
  const origin = reopened ? await originOf(config, reopened.record) : chosen;
  const begun = describeRun(config, name, origin);
  if (reopened) requireSameRun(reopened.record, begun);
  else await directory.writeRecord(begun);
  if (reopened) requireAllRounds(reopened.path, reopened, config.rounds);
  if (reopened?.hasEnded && reopened.unmeasured.length === 0) return showEnded({ config, emit }, reopened);
  await rememberCode(config);
  const clock = createStopwatch(directory.timings);
  // A resume that is refused writes nothing.
  const early: WorkerHello[] = [];
  let recordWorker = (worker: WorkerHello): void => void early.push(worker);
  let phase: string | undefined;
  const enter = (next?: string) => {
    if (phase !== undefined) clock.lap(0, phase);
    phase = next;
  };
  const options: Omit<SessionOptions, "span"> = {
    config,
    origin,
    launcher: requested.launcher,
    shared: requested.pool,
    signal,
    logFolder: directory.file("workers"),
    listener: {
      failure(failure) {
        meters.count("prelort.task.failures", 1, { "prelort.task.kind": failure.task.kind, "error.type": errorType(failure.error) });
        recordFailure(failure, directory, emit);
      },
      assigned: ({ identity }, seconds) => meters.record("prelort.task.wait_time", seconds, { "prelort.task.kind": identity.kind }),
      givenUp: ({ workerId, device, error }) => emit({ type: "worker-given-up", workerId, device, error: error.message }),
    },
    emit(event) {
      if (event.type === "worker-ready") recordWorker(event);
      if (event.type === "phase-start") enter(event.phase);
      emit(event);
    },
  };
  const session = await span.during("prelort.start", {}, (start) => openSession({ ...options, span: start }));
  try {
    enter();
    const differences = await recordSession(config, session, { begun, directory, reopened });
    if (reopened) events.recordIn(directory.events);
    recordWorker = (worker) => appendWorker(worker, directory);
    early.forEach(recordWorker);
    const resumed = reopened && { ...reopened, differences };
    await tracking.start(directory.path);
    return await train({ config, signal, session, directory, resumed, clock, emit, rounds: new RoundSpans(span), meters });
  } finally {
    await session.close();
  }
}

/** The last event of a run that ended. */
export function runEnd({ directory, layout, sha256, best, stopped }: RunResult): NewEvent {
  const adapters = foldersIn(path.join(directory, "adapters"), layout);
  const ofBest = best && { ...best, adapters: foldersIn(path.join(directory, "adapters", "best"), layout) };
  return { type: "run-end", directory, adapters, sha256, ...(ofBest && { best: ofBest }), ...(stopped && { stopped }) };
}

function foldersIn(folder: string, { tiers }: RunResult["layout"]): readonly string[] {
  return adapterFolders(folder, tiers).map(({ directory }) => directory);
}

/** The last event of a run that did not. */
export function runFailed(error: unknown): NewEvent {
  const message = error instanceof Error ? error.message : String(error);
  return { type: "run-failed", kind: error instanceof PrelortError ? error.kind : null, error: message };
}

/** An interrupted run can be resumed once it has committed a round. */
function withRemedy(error: unknown, directory: RunDirectory): unknown {
  if (!(error instanceof InterruptedError) || !existsSync(directory.file("rounds"))) return error;
  const remedy = `its committed rounds are kept: continue with prelort resume ${path.relative(".", directory.path)}`;
  return new InterruptedError(`${error.message}; ${remedy}`, { cause: error });
}

/** Writes what a new run is made from; returns what is different for a resumed one, or refuses it. */
async function recordSession(
  config: RunConfig,
  session: Session,
  { begun, directory, reopened }: { begun: WrittenRecord; directory: RunDirectory; reopened: ReopenedDirectory | undefined },
): Promise<readonly Difference[]> {
  const clients = encodeClientTable(describeClients(session));
  const record = { ...begun, ...describeSession(config, session, clients.summary) };
  const dataFiles = await listDataFiles(session.prepared);
  const changedData = reopened ? await changedDataFiles(directory.file(DATA_FILES), dataFiles) : [];
  const differences = reopened ? requireSameRun(reopened.record, record, changedData) : [];
  if (reopened) directory.journal.append({ type: "resume", after: reopened.commits.length - 1, differences });
  // A run that was killed during its start has not recorded this.
  if (!reopened || reopened.commits.length === 0) {
    if (dataFiles) await directory.writeDataFiles(dataFiles);
    await directory.writeClients(clients.parts);
    await directory.writeRecord(record);
  }
  return differences;
}

function appendWorker({ workerId, host, pid, device }: WorkerHello, directory: RunDirectory): void {
  directory.journal.append({ type: "worker", workerId, host, pid, device: device.name });
}

function recordFailure(failure: TaskFailure, directory: RunDirectory, emit: (event: NewEvent) => void): void {
  const { task, taskId, attempt, workerId, error, willRetry } = failure;
  directory.journal.append({ type: "failure", taskId, attempt, workerId, error: error.message, willRetry });
  const { kind, round, clientId } = task;
  if (kind === "fit" && round !== undefined && clientId !== undefined) {
    emit({ type: "client-failure", round, clientId, attempt, workerId, error: error.message, willRetry });
  }
}
