import { existsSync } from "node:fs";
import path from "node:path";
import type { RunConfig } from "../config/schema.ts";
import { InterruptedError } from "../errors.ts";
import type { WorkerLauncher } from "../workers/launch.ts";
import type { TaskFailure, WorkerHello } from "../workers/task.ts";
import { encodeClientTable } from "../records/client-table.ts";
import { changedDataFiles, DATA_FILES, listDataFiles } from "../records/data-files.ts";
import { describeClients, describeRun, describeSession } from "./describe-run.ts";
import type { RunEvent } from "./events.ts";
import { rememberCode } from "../records/named-code.ts";
import { originOf } from "../artifacts/init-source.ts";
import { requireAllRounds } from "../records/resume-point.ts";
import { showEnded } from "./resume.ts";
import type { RunResult } from "./result.ts";
import { createRunDirectory, type ReopenedDirectory, reopenRunDirectory, type RunDirectory } from "../records/run-directory.ts";
import { type Difference, requireSameRun } from "../records/resume-check.ts";
import { openSession, type Session } from "./session.ts";
import type { WrittenRecord } from "../records/run-record.ts";
import { prepareTracking } from "../track/tracking.ts";
import { createStopwatch } from "../records/timings.ts";
import { train } from "./train.ts";

/** What `federate` was called with. */
export interface RequestedRun {
  readonly config: RunConfig;
  readonly overwrite: boolean | undefined;
  readonly resume: boolean | undefined;
  readonly launcher: WorkerLauncher | undefined;
  readonly signal: AbortSignal;
  emit(event: RunEvent): void;
}

/** Claims the run directory, starts the workers, trains, and closes everything. */
export async function conductRun(requested: RequestedRun): Promise<RunResult> {
  const { config, signal, emit } = requested;
  const { runsDir, name = "" } = config;
  if (signal.aborted) throw new InterruptedError();
  // Checked before anything is created or replaced.
  const tracking = await prepareTracking({ trackers: config.track, signal, tell: (status) => emit({ type: "tracker-status", ...status }) });
  const chosen = requested.resume ? undefined : await originOf(config);
  const reopened = requested.resume ? await reopenRunDirectory(path.resolve(runsDir, name)) : undefined;
  const directory = reopened ?? (await createRunDirectory({ runsDir, name: config.name, overwrite: requested.overwrite }));
  tellCopy(directory, emit);
  try {
    const origin = reopened ? await originOf(config, reopened.record) : chosen;
    const begun = describeRun(config, path.basename(directory.path), origin);
    if (reopened) requireSameRun(reopened.record, begun);
    else await directory.writeRecord(begun);
    if (reopened) requireAllRounds(reopened.path, reopened, config.rounds);
    if (reopened?.hasEnded && reopened.unmeasured.length === 0) return await showEnded(requested, reopened);
    await rememberCode(config);
    const clock = createStopwatch(directory.timings);
    // A resume that is refused writes nothing.
    const early: WorkerHello[] = [];
    let recordWorker = (worker: WorkerHello): void => void early.push(worker);
    const session = await openSession({
      config,
      origin,
      launcher: requested.launcher,
      signal,
      logFolder: directory.file("workers"),
      listener: {
        failure: (failure) => recordFailure(failure, directory, emit),
        givenUp: ({ workerId, device, error }) => emit({ type: "worker-given-up", workerId, device, error: error.message }),
      },
      emit(event) {
        if (event.type === "worker-ready") recordWorker(event);
        emit(event);
      },
    });
    let result: RunResult;
    try {
      clock.lap(0, "start");
      const differences = await recordSession(config, session, { begun, directory, reopened });
      recordWorker = (worker) => appendWorker(worker, directory);
      early.forEach(recordWorker);
      await tracking.start(directory.path);
      result = await train({ config, signal, session, directory, resumed: reopened && { ...reopened, differences }, clock, emit });
    } finally {
      await session.close();
    }
    await tracking.close("finished");
    return result;
  } catch (error) {
    await tracking.close(error instanceof InterruptedError ? "killed" : "failed");
    throw withRemedy(error, directory);
  } finally {
    await directory.close();
  }
}

function tellCopy({ path: directory, copyOf }: RunDirectory, emit: (event: RunEvent) => void): void {
  if (!copyOf) return;
  const { folder, host, pid } = copyOf;
  emit({ type: "folder-copied", directory, copyOf: { directory: folder, host, pid } });
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

function recordFailure(failure: TaskFailure, directory: RunDirectory, emit: (event: RunEvent) => void): void {
  const { task, taskId, attempt, workerId, error, willRetry } = failure;
  directory.journal.append({ type: "failure", taskId, attempt, workerId, error: error.message, willRetry });
  const { kind, round, clientId } = task;
  if (kind === "fit" && round !== undefined && clientId !== undefined) {
    emit({ type: "client-failure", round, clientId, attempt, workerId, error: error.message, willRetry });
  }
}
