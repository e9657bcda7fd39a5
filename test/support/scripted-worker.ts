import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Packr } from "msgpackr";
import { onTestFinished } from "vitest";
import { createAssembler, describeTensors, splitTensors } from "../../src/protocol/tensor-chunks.ts";
import { decodeControllerMessage, type Frames } from "../../src/protocol/codec.ts";
import type { Adapter } from "../../src/adapter/adapter.ts";
import { asFloat32, decode } from "../../src/tensor/encoded.ts";
import type { ControllerMessage, ControllerMessageOf } from "../../src/protocol/messages.ts";
import { PROTOCOL_VERSION } from "../../src/protocol/limits.ts";
import { createSharedMemory } from "../../src/transport/shared-memory.ts";
import { memoryTransport } from "./memory-transport.ts";
import type { LaunchOptions, WorkerExit, WorkerLauncher } from "../../src/workers/launch.ts";
import type { WorkerSettings } from "../../src/workers/settings.ts";

const packr = new Packr({ useRecords: false, variableMapSize: true });

/** A worker that a test controls step by step, so that faults happen at the right moment. */
export interface ScriptedWorker extends LaunchOptions {
  /** Sends a message; `protocol_version` is filled in unless given. */
  send(message: Record<string, unknown>): void;
  sendRaw(...frames: Frames): void;
  hello(changes?: Record<string, unknown>): void;
  /** The controller's next message that is not credit. */
  next(): Promise<ControllerMessage>;
  /** The next message; throws if it has another type. */
  expect<T extends ControllerMessage["type"]>(type: T): Promise<ControllerMessageOf<T>>;
  /** Sends an answer to a task with all of its tensors. */
  answer(task: { readonly task_id: string; readonly attempt: number }, message: Record<string, unknown>, payload?: Adapter): void;
  /** Answers every task correctly until the end. Fits return the adapter that they were sent. */
  serve(): Promise<void>;
  exit(exit: WorkerExit): void;
  readonly wasKilled: () => boolean;
  /** Bytes of credit that the controller has returned. */
  readonly credited: () => number;
}

/** Launches workers over the memory transport, each played by `script`, as that process. `launched` lists them in order. */
export function scriptedSettings(
  script: (worker: ScriptedWorker) => unknown,
  pid?: number,
): WorkerSettings & { readonly launched: ScriptedWorker[] } {
  const transport = memoryTransport();
  const memory = createSharedMemory();
  const logFolder = mkdtempSync(join(tmpdir(), "scripted-"));
  onTestFinished(async () => {
    await transport.close();
    await memory.close();
    await rm(logFolder, { recursive: true });
  });
  const launched: ScriptedWorker[] = [];
  const launcher: WorkerLauncher = {
    launch(options) {
      const peer = transport.connect(options.workerId);
      let resolveExit: (exit: WorkerExit) => void = () => {};
      const exited = new Promise<WorkerExit>((resolve) => {
        resolveExit = resolve;
      });
      const exit = (how: WorkerExit) => {
        void peer.close();
        resolveExit(how);
      };
      let killed = false;
      const worker = play(
        options,
        peer.receive(),
        (...frames) => void peer.send(...frames),
        exit,
        () => killed,
      );
      launched.push(worker);
      queueMicrotask(() => void script(worker));
      const kill = () => {
        killed = true;
        exit({ signal: "SIGKILL" });
      };
      return { pid, exited, kill };
    },
  };
  return {
    launcher,
    transport,
    memory,
    threads: 1,
    logFolder,
    startTimeoutMs: 60_000,
    beatTimeoutMs: 60_000,
    taskTimeoutMs: 60_000,
    launched,
  };
}

function play(
  options: LaunchOptions,
  incoming: AsyncIterable<Frames>,
  sendRaw: (...frames: Frames) => void,
  exit: (exit: WorkerExit) => void,
  wasKilled: () => boolean,
): ScriptedWorker {
  let credited = 0;
  const messages = incoming[Symbol.asyncIterator]();
  const worker: ScriptedWorker = {
    ...options,
    sendRaw,
    exit,
    wasKilled,
    credited: () => credited,
    send({ data, ...message }) {
      sendRaw(packr.pack({ protocol_version: PROTOCOL_VERSION, ...message }), ...(data instanceof Uint8Array ? [data] : []));
    },
    hello: (changes) =>
      worker.send({
        type: "hello",
        pid: 7,
        versions: { python: "3.11" },
        variables: {},
        device: { type: "cpu", name: "cpu", capability: null, memory_bytes: null },
        threads: 1,
        shares_memory: false,
        host: "tiny",
        memory: null,
        ...changes,
      }),
    async next() {
      while (true) {
        const { value, done } = await messages.next();
        if (done) return new Promise(() => {}); // a process that has exited does nothing
        const message = decodeControllerMessage(...value);
        if (message.type !== "credit") return message;
        credited += message.bytes;
      }
    },
    async expect<T extends ControllerMessage["type"]>(type: T) {
      const message = await worker.next();
      if (message.type !== type) throw new Error(`expected ${type}, got ${message.type}`);
      return message as ControllerMessageOf<T>;
    },
    answer({ task_id, attempt }, message, payload) {
      const envelope = { task_id, attempt };
      worker.send({ ...envelope, ...message, ...(payload ? { tensors: describeTensors(payload) } : {}) });
      if (!payload) return;
      for (const chunk of splitTensors(payload, { chunkBytes: 8 })) worker.send({ ...envelope, type: "chunk", ...chunk });
      worker.send({ ...envelope, type: "end" });
    },
    async serve() {
      worker.hello();
      while (true) {
        const message = await worker.next();
        if (message.type === "stop") return exit({ exitCode: 0 });
        if (message.type === "load") worker.answer(message, loaded);
        if (message.type === "evaluate")
          worker.answer(message, { type: "evaluated", columns: [], metrics: [], samples: [], seconds: 0, tensors: [] });
        if (message.type === "fit") worker.answer(message, fitted(message), await takePayload(worker, message));
      }
    },
  };
  return worker;
}

export const loaded = {
  type: "loaded",
  modules: [{ name: "m", in: 1, out: 1 }],
  dense: [],
  n_parameters: 2,
  peft_type: null,
  modules_to_save: [],
  left_out: [],
  source: { commit: null, files: [] },
  tensors: [],
};

export function fitted({ client_id, r, scale }: ControllerMessageOf<"fit">): Record<string, unknown> {
  return {
    type: "fitted",
    client_id,
    r,
    scale,
    n: 10,
    steps: 1,
    passes: 1,
    loss: 0.5,
    grad_norm: null,
    norm: null,
    rms_loss: 0.5,
    seconds: 1,
    peak_memory_bytes: null,
    tensors: [],
  };
}

/** Reads the tensors that follow a fit's header, and returns credit. */
export async function takePayload(worker: ScriptedWorker, fit: ControllerMessageOf<"fit">): Promise<Adapter> {
  const assembler = createAssembler(fit.tensors, "any");
  while (fit.tensors.length > 0) {
    const message = await worker.next();
    if (message.type === "end") break;
    if (message.type !== "chunk") throw new Error(`expected a chunk, got ${message.type}`);
    assembler.write(message);
    worker.send({ type: "credit", bytes: message.data.length });
  }
  const { rows = NOTHING, dense = NOTHING } = assembler.finish();
  return { r: fit.r, rows: decode(rows), dense: decode(dense) };
}

const NOTHING = asFloat32(new Float32Array());

/** Of a fit that a script answers. */
export function fitRequest(clientId: string, r: number) {
  return {
    type: "fit",
    round: 1,
    client_id: clientId,
    r,
    scale: 2,
    seed: "0".repeat(32),
    fit: onePlainStep,
    update_dtype: "F32",
    partial_sum: null,
  } as const;
}

/** Its training. */
export const onePlainStep = {
  objective: "none",
  full_weight: null,
  local_steps: 1,
  batch_size: 1,
  gradient_accumulation_steps: 1,
  gradient_checkpointing: false,
  group_by_length: false,
  lr: 0.1,
  head_lr: 0.1,
  max_grad_norm: 0,
  lr_b: 0.1,
  freeze_a: false,
  components: null,
  acting_tail: 1,
  tail_penalty: 0,
  optimizer: { name: "adamw", betas: [0.9, 0.999] as number[], eps: 1e-8, weight_decay: 0 },
  warmup_steps: 0,
  label_smoothing: 0,
  neftune_alpha: 0,
  proximal_mu: 0,
  client_state: "new",
} as const;
