import { join } from "node:path";
import { InterruptedError, RefusedError, RunFailedError, type WorkerError } from "../errors.ts";
import { decodeWorkerMessage, encode, type Frames } from "../protocol/codec.ts";
import type { ControllerMessage, WorkerMessage, WorkerMessageOf } from "../protocol/messages.ts";
import type { Door } from "../transport/transport.ts";
import { admit, probe, startingStatus } from "./admission.ts";
import { type AnswerMessage, Attempt, type Receiving, UnsharedError } from "./attempt.ts";
import { Cancellations } from "./cancellations.ts";
import { createDeferred } from "../base/deferred.ts";
import { describeExit, endError, type FatalProblem } from "./exit.ts";
import type { Hosts } from "./hosts.ts";
import { createInFlight } from "./in-flight.ts";
import type { WorkerExit, WorkerProcess } from "./launch.ts";
import { describeHello, deviceError } from "./hello.ts";
import { isServing, type Reply, type Task, type WorkerHello, type WorkerState, type WorkerStatus } from "./task.ts";
import type { Place, WorkerSettings } from "./settings.ts";
import { SESSION } from "../protocol/limits.ts";
import { NOTHING_SHARED, shareWith, type Sharing } from "./sharing.ts";
import { TaskSender } from "./task-sender.ts";
import { StatusBoard } from "./status-board.ts";
import { createWatchdog, type Watchdog } from "./watchdog.ts";

/** What a worker has to do with. */
type Surroundings = WorkerSettings & Omit<Receiving, "borrow"> & { readonly hosts: Hosts };

/** One worker process, from its launch to its end: starting → ready → busy → ready … → stopping → stopped | failed. */
export class Worker {
  readonly id: string;
  readonly #settings: Surroundings;
  readonly #logPath = () => join(this.#settings.logFolder, `${this.id}.log`);
  readonly #door: Door;
  readonly #process: WorkerProcess;
  readonly #watchdog: Watchdog;
  readonly #sender: TaskSender;
  readonly #inFlight = createInFlight();
  readonly #ready = createDeferred<WorkerHello>();
  /** Rejects, with the error of `ended`, if the worker never says hello. */
  readonly ready: Promise<WorkerHello> = this.#ready.promise;
  readonly #cancellations: Cancellations;
  #sharing: Sharing = NOTHING_SHARED;
  #host: string | undefined;
  /** Why it was killed. */
  #fatal: FatalProblem | undefined;
  #grace: NodeJS.Timeout | undefined;
  readonly #board: StatusBoard;
  /** Resolves with the reason once the process is gone; undefined if it was asked to stop. Never rejects. */
  readonly ended: Promise<WorkerError | undefined>;
  /** Resolves once it has answered the tasks that it has now, or is gone. */
  readonly idle = () => Promise.allSettled(this.#inFlight.all().map(({ reply }) => reply));

  /** Launches it. Calls `onStatus` on every change. */
  constructor(place: Place, settings: Surroundings, onStatus: (status: WorkerStatus) => void) {
    const { launcher, transport, threads, beatTimeoutMs } = settings;
    this.id = place.id;
    this.#settings = settings;
    this.#board = new StatusBoard(startingStatus(this.id, launcher), onStatus);
    this.#sender = new TaskSender(this.id, this.#send, () => isServing(this.#board.now) && this.#watchdog.task.restart());
    this.#watchdog = createWatchdog(settings, {
      kill: (problem, options) => this.kill(problem, options),
      probe: () => void (launcher.isRemote && probe(this, this.#send)),
      awaited: () => this.#board.now.taskId ?? this.#sender.current,
      // What is put into the memory of its machine, for it to read, is another worker's to receive.
      isDelivered: () =>
        this.#sender.current === undefined && (this.#sender.isLending || this.#inFlight.all().every((attempt) => attempt.isDelivered())),
    });
    this.#cancellations = new Cancellations(this.id, this.#watchdog.cancel, ({ taskId: task_id, number }) =>
      this.tell({ ...SESSION, type: "cancel", task_id, attempt: number }),
    );
    this.#door = transport.open(this.id);
    const { endpoint, serverKey } = this.#door;
    const onWaiting = (reason: string) =>
      void (this.status().state === "starting" && this.#board.update({ activity: reason || "starting" }));
    const told = { workerId: this.id, endpoint, serverKey, lease: beatTimeoutMs / 1000, threads, logPath: this.#logPath(), onWaiting };
    this.#process = launcher.launch({ ...place, ...told });
    this.ended = this.#process.exited.then((exit) => this.#end(exit));
    // `ended` reports a failed start as well.
    this.#ready.promise.catch(() => {});
    if (!launcher.isRemote) this.#watchdog.start.restart();
    onStatus(this.status());
    if (serverKey !== undefined) void admit(this.#process, this.#door, this, this.#watchdog.start);
  }

  status(): WorkerStatus {
    return this.#board.now;
  }

  /** Whether it was asked to drop a task and has not done so yet. */
  readonly isCancelling = (): boolean => this.#cancellations.isPending;

  /**
   * Tries a task after those it already has; its tensors are sent meanwhile. A problem of the worker itself ends its process
   * first. Resolves with undefined if the worker ended before it began the task.
   */
  async run(task: Task, number: number): Promise<Reply | undefined> {
    if (!isServing(this.#board.now)) return undefined;
    const attempt = new Attempt(task, number, { workerId: this.id, host: this.#host }, { ...this.#settings, borrow: this.#sharing.borrow });
    this.#inFlight.add(attempt);
    this.#cancellations.add(attempt);
    this.#follow();
    const answered = attempt.reply.finally(() => this.#forget(attempt));
    const sent = this.#sender
      .send(task, number, {
        isWanted: () => !attempt.isOver(),
        lend: () => this.#sharing.lend,
        begin: () => this.#cancellations.begin(attempt),
      })
      .catch((cause: unknown) => {
        // Nothing was sent: the request itself is wrong, and the worker goes on.
        if (cause instanceof RunFailedError) attempt.fail(cause);
        // A peer that is no longer connected is dying: its exit or its missing heartbeats will give the reason.
        else if (!(cause instanceof RefusedError)) this.kill(`could not be sent ${task.id}`, { cause });
      });
    // Even if the answer came early, as a failure may: a task is sent whole before the next one.
    const [reply] = await Promise.allSettled([answered, sent]);
    const delivered = await sent;
    delivered?.release();
    if (reply.status === "fulfilled") return reply.value;
    // Whoever was lent nothing by another worker has no such reason to fail, and would be sent the task for ever.
    if (!delivered?.isKept || !(reply.reason instanceof UnsharedError)) throw reply.reason;
    this.#sharing.refuse();
    return undefined;
  }

  /** Asks it to drop this task, or all it has. It is killed if that takes as long as a missed heartbeat. */
  cancel(taskId?: string): void {
    for (const attempt of this.#inFlight.all()) {
      if (taskId === undefined || attempt.taskId === taskId) this.#cancellations.cancel(attempt);
    }
  }

  /** Handles a message from the worker. */
  receive(...frames: Frames): void {
    if (this.#board.now.state === "failed" || this.#board.now.state === "stopped") return;
    this.#watchdog.beat.restart();
    try {
      const message: WorkerMessage = decodeWorkerMessage(...frames);
      if (message.type === "hello") this.#hello(message);
      else if (message.type === "unavailable") this.kill(`cannot take tasks: ${message.message}`, { cause: deviceError(message) });
      else if (message.type === "beat") this.#beat(message);
      else if (message.type === "credit") {
        this.#sender.giveCredit(message.bytes);
        this.#noteProgress();
      } else if (this.#sender.keeper.take(message)) this.#noteProgress();
      else if ("attempt" in message && message.type !== "kept") this.#answer(message);
      else this.kill(`sent ${message.type}, which is not for a worker that has joined`);
    } catch (cause) {
      this.kill(`sent an invalid message: ${(cause as Error).message}`, { cause });
    }
  }

  /** Asks the process to end, and kills it if it has not after the grace. May be called again with another grace. */
  stop(graceMs: number): void {
    const { state } = this.#board.now;
    if (state === "stopped" || state === "failed") return;
    clearTimeout(this.#grace);
    // A worker that has not said hello has nothing to finish, and may not be connected yet.
    const isAtOnce = graceMs === 0 || state === "starting";
    if (isAtOnce) this.#process.kill();
    else this.#grace = setTimeout(() => this.#process.kill(), graceMs);
    if (state === "stopping") return;
    this.#enter("stopping", "stopping");
    if (!isAtOnce) this.tell({ ...SESSION, type: "stop" });
  }

  /** Ends the process at once, for this reason. */
  kill(problem: string, { isLost = false, ...options }: ErrorOptions & { readonly isLost?: boolean } = {}): void {
    if (this.#board.now.state === "stopped" || this.#board.now.state === "failed") return;
    this.#fatal ??= { problem, isLost, options };
    if (this.#board.now.state !== "stopping") this.#enter("failed", problem);
    this.#process.kill(isLost);
  }

  async #end(exit: WorkerExit): Promise<WorkerError | undefined> {
    this.#door.close();
    const isStopped = this.#board.now.state === "stopping";
    const problem = this.#fatal?.problem ?? describeExit(exit, this.#board.now);
    this.#watchdog.clear();
    clearTimeout(this.#grace);
    this.#enter(isStopped ? "stopped" : "failed", isStopped ? "stopped" : problem);
    const isUncertain = !this.#inFlight.isCertain();
    // Only workers elsewhere have a host. A launcher that has a problem after the worker was up has lost its machine.
    const isLost = this.#host !== undefined && (this.#fatal ? this.#fatal.isLost : exit.problem !== undefined);
    const name = { workerId: this.id, host: this.#host ?? exit.host };
    const error = await endError(problem, { ...name, exit, fatal: this.#fatal, isUncertain, isLost, logPath: this.#logPath() });
    const reason = isStopped ? new InterruptedError(`worker ${this.id} was stopped`) : error;
    this.#sharing.leave();
    this.#sender.close(reason);
    this.#inFlight.close(reason);
    this.#ready.reject(reason);
    return isStopped ? undefined : error;
  }

  #hello(message: WorkerMessageOf<"hello">): void {
    if (this.#board.now.state !== "starting") return this.kill("said hello twice");
    this.#watchdog.start.clear();
    this.#sharing = shareWith(message, { pid: this.#process.pid, ended: this.ended, keeper: this.#sender.keeper }, this.#settings);
    this.#host = this.#settings.launcher.isRemote ? message.host : undefined;
    this.#enter("ready", "idle");
    this.#ready.resolve(describeHello(this.id, message));
  }

  #beat({ activity, task_id, step, steps }: WorkerMessageOf<"beat">): void {
    if (task_id !== null) this.#inFlight.begin(task_id);
    this.#follow();
    // Between tasks a heartbeat may still name the last one.
    const isCurrent = this.#board.now.state === "busy" && (task_id === null || task_id === this.#board.now.taskId);
    if (this.#board.now.state !== "starting" && !isCurrent) return;
    if (this.#board.update({ activity, step, steps }) && isCurrent) this.#watchdog.task.restart();
  }

  #answer(message: AnswerMessage): void {
    this.#inFlight.take(message);
    this.#follow();
    this.#noteProgress();
    // Dropped chunks count as consumed; otherwise the worker would wait forever.
    if (message.type === "chunk" && message.data.length > 0) this.tell({ ...SESSION, type: "credit", bytes: message.data.length });
  }

  #noteProgress(): void {
    if (this.#board.now.state === "busy" || this.#sender.current !== undefined) this.#watchdog.task.restart();
  }

  /** Called whenever its current task may have changed. */
  #follow(): void {
    const taskId = this.#inFlight.current()?.taskId ?? null;
    if (!isServing(this.#board.now) || taskId === this.#board.now.taskId) return;
    this.#enter(taskId === null ? "ready" : "busy", taskId ?? "idle");
    if (taskId !== null) this.#watchdog.task.restart();
    else if (this.#sender.current === undefined) this.#watchdog.task.clear();
  }

  #forget(attempt: Attempt): void {
    this.#inFlight.remove(attempt);
    this.#cancellations.remove(attempt);
    this.#follow();
  }

  #enter(state: WorkerState, activity: string): void {
    const { task = null, taskId = null } = this.#inFlight.current() ?? {};
    this.#board.update({ state, activity, task, taskId, step: 0, steps: 0 });
  }

  readonly #send = (message: ControllerMessage): Promise<void> => this.#settings.transport.send(this.id, ...encode(message));

  /** For messages that a dead worker does not need: its exit, or its missing heartbeats, will report it. */
  tell(message: ControllerMessage, { isInTurn = false } = {}): void {
    void (isInTurn ? this.#sender.sendInTurn(message) : this.#send(message)).catch(() => {});
  }
}
