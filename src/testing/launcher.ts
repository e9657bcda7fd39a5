import type { Adapter } from "../adapter/adapter.ts";
import { createDeferred } from "../base/deferred.ts";
import type { WorkerMessage } from "../protocol/messages.ts";
import type { WorkerExit, WorkerLauncher } from "../workers/launch.ts";
import { SESSION } from "../protocol/limits.ts";
import { connect, type TaskMessage, type Tensors } from "./connection.ts";
import { CancelledError, createTinyWorker, type Progress, type TinyFit } from "./tiny-worker.ts";
import type { TinyData } from "./tiny-data.ts";
import { zeroAdapter } from "./updates.ts";
import { WIDTH } from "./tiny-model.ts";

export interface TinyLauncherOptions {
  /**
   * Does a fit and returns the update, honest or not. By default `(fit) => fit.train()`. An error that it throws fails this attempt.
   */
  readonly fit?: (fit: TinyFit) => Adapter | Promise<Adapter>;
}

/** A fit that returns the adapter it received: its update is zero. */
export function echo({ r, received }: Pick<TinyFit, "r" | "received">): Adapter {
  return zeroAdapter({ width: WIDTH, denseSize: received.dense.length }, r);
}

/**
 * Workers for `federate` that run in this process, without Python: they speak the wire contract over the same sockets, and
 * train a softmax regression of eight labels on data generated from the run's seed. `tinyRun` returns a config for it.
 */
export function tinyLauncher({ fit = ({ train }) => train() }: TinyLauncherOptions = {}): WorkerLauncher {
  /** The data that workers have prepared, by its SHA-256. */
  const datasets = new Map<string, TinyData>();
  return {
    launch(options) {
      const connection = connect(options);
      const worker = createTinyWorker(datasets, fit);
      const cancelled = new Set<string>();
      const exited = createDeferred<WorkerExit>();
      let hasEnded = false;
      let progress: Progress = { activity: "idle", task_id: null, step: 0, steps: 0 };
      const beat = () => connection.send({ ...SESSION, type: "beat", ...progress });
      const heart = setInterval(beat, 1000).unref();
      const exit = (how: WorkerExit) => {
        hasEnded = true;
        clearInterval(heart);
        connection.close();
        exited.resolve(how);
      };

      const answer = async (task: TaskMessage, tensors: Tensors) => {
        const key = keyOf(task);
        const report = (step: number, steps: number) => {
          if (hasEnded || cancelled.has(key)) throw new CancelledError(task.task_id);
          progress = { activity: task.task_id, task_id: task.task_id, step, steps };
        };
        try {
          report(0, 0);
          const { message, payload } = await worker.run(task, tensors, report, (text) => connection.send(text));
          connection.send(message, payload);
        } catch (error) {
          connection.send(failureOf(task, error));
        }
        progress = { activity: "idle", task_id: null, step: 0, steps: 0 };
      };

      const serve = async () => {
        connection.send({ ...SESSION, type: "hello", ...worker.describe(options) });
        let lastAnswer: Promise<void> = Promise.resolve();
        for await (const received of connection.receive()) {
          if (received.type === "stop") break;
          else if (received.type === "cancel") cancelled.add(keyOf(received));
          else if (received.type === "grant") lastAnswer = lastAnswer.then(() => worker.grant(received));
          else lastAnswer = lastAnswer.then(() => answer(received.task, received.tensors));
        }
        exit({ exitCode: 0 });
      };
      serve().catch((error: unknown) => exit({ problem: String(error) }));
      const publicKey = connection.publicKey === undefined ? undefined : Promise.resolve(connection.publicKey);
      return { publicKey, exited: exited.promise, kill: () => exit({ signal: "SIGKILL" }) };
    },
  };
}

function keyOf({ task_id, attempt }: Pick<TaskMessage, "task_id" | "attempt">): string {
  return `${task_id} ${attempt}`;
}

function failureOf({ task_id, attempt }: TaskMessage, error: unknown): WorkerMessage {
  const { name, message, stack = "" } = error instanceof Error ? error : new Error(String(error));
  const kind = error instanceof CancelledError ? "cancelled" : "failed";
  const report = { kind, message: `${name}: ${message}`, traceback: kind === "failed" ? stack : "", problems: [] } as const;
  return { ...SESSION, task_id, attempt, type: "failure", error: { ...report, problems: [] } };
}
