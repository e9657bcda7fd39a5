import { join } from "node:path";
import { InterruptedError, RefusedError, type WorkerError } from "../errors.ts";
import type { Borrow } from "../protocol/tensor-chunks.ts";
import { decodeWorkerMessage, encode, type Frames } from "../protocol/codec.ts";
import type { ControllerMessage, WorkerMessage, WorkerMessageOf } from "../protocol/messages.ts";
import { borrowFromProcess, canShareWith } from "../transport/shared-memory.ts";
import type { Door, Transport } from "../transport/transport.ts";
import { admit, startingStatus } from "./admission.ts";
import { type AnswerMessage, Attempt, type Receiving } from "./attempt.ts";
import { createDeferred } from "../base/deferred.ts";
import { describeExit, endError, type FatalProblem } from "./exit.ts";
import { createInFlight } from "./in-flight.ts";
import type { WorkerExit, WorkerProcess } from "./launch.ts";
import { describeHello, deviceError } from "./hello.ts";
import { isServing, type Reply, type Task, type WorkerHello, type WorkerState, type WorkerStatus } from "./task.ts";
import type { Place, WorkerSettings } from "./settings.ts";
import { SESSION } from "../protocol/limits.ts";
import { TaskSender } from "./task-sender.ts";
import { createWatchdog, type Watchdog } from "./watchdog.ts";

/** One worker process, from its launch to its end: starting → ready → busy → ready … → stopping → stopped | failed. */
export class Worker {
  readonly id: string;
  readonly #receiving: Omit<Receiving, "borrow">;
  readonly #logPath: string;
  readonly #transport: Transport;
  readonly #door: Door;
  readonly #process: WorkerProcess;
  readonly #watchdog: Watchdog;
  readonly #sender: TaskSender;
  readonly #inFlight = createInFlight();
  readonly #ready = createDeferred<WorkerHello>();
  /** Rejects, with the error of `ended`, if the worker never says hello. */
  readonly ready: Promise<WorkerHello> = this.#ready.promise;
  /** Attempts that have not been sent yet. */
  readonly #unsent = new Set<Attempt>();
  /** Attempts that the worker was asked to drop. */
  readonly #cancelled = new Set<Attempt>();
  /** Reads the memory that the worker's process shares with this one, if it does. */
  #borrow: Borrow | undefined;
  /** Why it was killed. */
  #fatal: FatalProblem | undefined;
  #grace: NodeJS.Timeout | undefined;
  readonly #onStatus: (status: WorkerStatus) => void;
  #status: WorkerStatus;
  /** Resolves with the reason once the process is gone; undefined if it was asked to stop. Never rejects. */
  readonly ended: Promise<WorkerError | undefined>;
  /** Resolves once it has answered the tasks that it has now, or is gone. */
  readonly idle = () => Promise.allSettled(this.#inFlight.all().map(({ reply }) => reply));

  /** Launches it. Calls `onStatus` on every change. */
  constructor(place: Place, settings: WorkerSettings & Omit<Receiving, "borrow">, onStatus: (status: WorkerStatus) => void) {
    const { launcher, transport, memory, threads, logFolder, beatTimeoutMs } = settings;
    this.id = place.id;
    this.#receiving = settings;
    this.#transport = transport;
    this.#logPath = join(logFolder, `${this.id}.log`);
    this.#onStatus = onStatus;
    this.#status = startingStatus(this.id, launcher);
    this.#sender = new TaskSender((message) => this.#send(message), memory);
    this.#watchdog = createWatchdog(settings, {
      kill: (problem) => this.kill(problem),
      awaited: () => this.#status.taskId ?? this.#sender.current,
      isDelivered: () => this.#sender.current === undefined && this.#inFlight.all().every((attempt) => attempt.isDelivered()),
    });
    this.#door = transport.open(this.id);
    const { endpoint, serverKey } = this.#door;
    const lease = beatTimeoutMs / 1000;
    const onWaiting = (reason: string) => void (this.#status.state === "starting" && this.#update({ activity: reason || "starting" }));
    const access = { endpoint, serverKey, lease, onWaiting };
    this.#process = launcher.launch({ ...place, ...access, workerId: this.id, threads, logPath: this.#logPath });
    this.ended = this.#process.exited.then((exit) => this.#end(exit));
    // `ended` reports a failed start as well.
    this.#ready.promise.catch(() => {});
    if (!launcher.isRemote) this.#watchdog.start.restart();
    onStatus(this.#status);
    if (serverKey !== undefined) void admit(this.#process, this.#door, this, this.#watchdog.start);
  }

  status(): WorkerStatus {
    return this.#status;
  }

  /** Whether it was asked to drop a task and has not done so yet. */
  isCancelling(): boolean {
    return this.#cancelled.size > 0;
  }

  /**
   * Tries a task after those it already has; its tensors are sent meanwhile. A problem of the worker itself ends its process
   * first. Resolves with undefined if the worker ended before it began the task.
   */
  async run(task: Task, number: number): Promise<Reply | undefined> {
    if (!isServing(this.#status)) return undefined;
    const attempt = new Attempt(task, number, this.id, { ...this.#receiving, borrow: this.#borrow });
    this.#inFlight.add(attempt);
    this.#unsent.add(attempt);
    this.#follow();
    const answered = attempt.reply.finally(() => this.#forget(attempt));
    const sent = this.#sender
      .send(task, number, () => {
        this.#unsent.delete(attempt);
        return { isWanted: !attempt.isOver(), sharesMemory: this.#borrow !== undefined };
      })
      .catch((cause: unknown) => {
        // A peer that is no longer connected is dying: its exit or its missing heartbeats will give the reason.
        if (!(cause instanceof RefusedError)) this.kill(`could not be sent ${task.id}`, { cause });
      });
    // Even if the answer came early, as a failure may: a task is sent whole before the next one.
    const [reply] = await Promise.allSettled([answered, sent]);
    (await sent)?.();
    if (reply.status === "rejected") throw reply.reason;
    return reply.value;
  }

  /** Asks it to drop this task, or all it has. It is killed if that takes as long as a missed heartbeat. */
  cancel(taskId?: string): void {
    for (const attempt of this.#inFlight.all().filter((given) => taskId === undefined || given.taskId === taskId)) {
      if (this.#unsent.has(attempt)) {
        attempt.fail(new InterruptedError(`${attempt.taskId} was cancelled before it was sent to worker ${this.id}`));
        continue;
      }
      this.tell({ ...SESSION, type: "cancel", task_id: attempt.taskId, attempt: attempt.number });
      if (this.#cancelled.size === 0) this.#watchdog.cancel.restart();
      this.#cancelled.add(attempt);
    }
  }

  /** Handles a message from the worker. */
  receive(...frames: Frames): void {
    if (this.#status.state === "failed" || this.#status.state === "stopped") return;
    this.#watchdog.beat.restart();
    try {
      const message: WorkerMessage = decodeWorkerMessage(...frames);
      if (message.type === "hello") this.#hello(message);
      else if (message.type === "unavailable") this.kill(`cannot take tasks: ${message.message}`, { cause: deviceError(message) });
      else if (message.type === "beat") this.#beat(message);
      else if (message.type === "credit") {
        this.#sender.giveCredit(message.bytes);
        this.#noteProgress();
      } else if ("attempt" in message && message.type !== "kept") this.#answer(message);
      else this.kill(`sent ${message.type}, which is not for a worker that has joined`);
    } catch (cause) {
      this.kill(`sent an invalid message: ${(cause as Error).message}`, { cause });
    }
  }

  /** Asks the process to end, and kills it if it has not after the grace. May be called again with another grace. */
  stop(graceMs: number): void {
    const { state } = this.#status;
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
  kill(problem: string, options?: ErrorOptions): void {
    if (this.#status.state === "stopped" || this.#status.state === "failed") return;
    this.#fatal ??= { problem, options };
    if (this.#status.state !== "stopping") this.#enter("failed", problem);
    this.#process.kill();
  }

  async #end(exit: WorkerExit): Promise<WorkerError | undefined> {
    this.#door.close();
    const isStopped = this.#status.state === "stopping";
    const problem = this.#fatal?.problem ?? describeExit(exit, this.#status);
    this.#watchdog.clear();
    clearTimeout(this.#grace);
    this.#enter(isStopped ? "stopped" : "failed", isStopped ? "stopped" : problem);
    const isUncertain = !this.#inFlight.isCertain();
    const error = await endError(problem, { workerId: this.id, exit, fatal: this.#fatal, isUncertain, logPath: this.#logPath });
    const reason = isStopped ? new InterruptedError(`worker ${this.id} was stopped`) : error;
    this.#sender.close(reason);
    this.#inFlight.close(reason);
    this.#ready.reject(reason);
    return isStopped ? undefined : error;
  }

  #hello(message: WorkerMessageOf<"hello">): void {
    if (this.#status.state !== "starting") return this.kill("said hello twice");
    this.#watchdog.start.clear();
    // With another launcher, this may be a pid of another machine.
    if (message.shares_memory && message.pid === this.#process.pid && canShareWith(message.pid))
      this.#borrow = borrowFromProcess(message.pid, this.ended);
    this.#enter("ready", "idle");
    this.#ready.resolve(describeHello(this.id, message));
  }

  #beat({ activity, task_id, step, steps }: WorkerMessageOf<"beat">): void {
    if (task_id !== null) this.#inFlight.begin(task_id);
    this.#follow();
    // Between tasks a heartbeat may still name the last one.
    const isCurrent = this.#status.state === "busy" && (task_id === null || task_id === this.#status.taskId);
    if (this.#status.state !== "starting" && !isCurrent) return;
    if (this.#update({ activity, step, steps }) && isCurrent) this.#watchdog.task.restart();
  }

  #answer(message: AnswerMessage): void {
    this.#inFlight.take(message);
    this.#follow();
    this.#noteProgress();
    // Dropped chunks count as consumed; otherwise the worker would wait forever.
    if (message.type === "chunk" && message.data.length > 0) this.tell({ ...SESSION, type: "credit", bytes: message.data.length });
  }

  #noteProgress(): void {
    if (this.#status.state === "busy" || this.#sender.current !== undefined) this.#watchdog.task.restart();
  }

  /** Called whenever its current task may have changed. */
  #follow(): void {
    const taskId = this.#inFlight.current()?.taskId ?? null;
    if (!isServing(this.#status) || taskId === this.#status.taskId) return;
    this.#enter(taskId === null ? "ready" : "busy", taskId ?? "idle");
    if (taskId !== null) this.#watchdog.task.restart();
    else if (this.#sender.current === undefined) this.#watchdog.task.clear();
  }

  #forget(attempt: Attempt): void {
    this.#inFlight.remove(attempt);
    if (this.#cancelled.delete(attempt) && this.#cancelled.size === 0) this.#watchdog.cancel.clear();
    this.#follow();
  }

  #enter(state: WorkerState, activity: string): void {
    const { task = null, taskId = null } = this.#inFlight.current() ?? {};
    this.#update({ state, activity, task, taskId, step: 0, steps: 0 });
  }

  #update(changes: Partial<WorkerStatus>): boolean {
    const isNew = Object.entries(changes).some(([key, value]) => this.#status[key as keyof WorkerStatus] !== value);
    this.#status = { ...this.#status, ...changes };
    if (isNew) this.#onStatus(this.#status);
    return isNew;
  }

  #send(message: ControllerMessage): Promise<void> {
    return this.#transport.send(this.id, ...encode(message));
  }

  /** For messages that a dead worker does not need: its exit, or its missing heartbeats, will report it. */
  tell(message: ControllerMessage, { isInTurn = false } = {}): void {
    void (isInTurn ? this.#sender.sendInTurn(message) : this.#send(message)).catch(() => {});
  }
}
