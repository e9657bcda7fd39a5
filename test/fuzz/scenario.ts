import process from "node:process";
import { crc32 } from "node:zlib";
import type { Adapter } from "../../src/adapter/adapter.ts";
import type { Lent } from "../../src/protocol/tensor-chunks.ts";
import type { Frames } from "../../src/protocol/codec.ts";
import { CHUNK_BYTES, CREDIT_BYTES } from "../../src/protocol/limits.ts";
import { type Dtype, encodedBytes } from "../../src/tensor/encoded.ts";
import type { Rng } from "../../src/base/rng.ts";
import { named, type Task, type TaskRequest } from "../../src/workers/task.ts";
import { goldenMessage, pack } from "./corpus.ts";
import { mutateMessage, type Sources } from "./mutate.ts";
import { below, choose, isOdds } from "./random.ts";

/** An event for the controller's side of a worker: a message from its process, or something else. */
export type Step = Frames | "turn" | "run" | "cancel" | "stop" | "exit";

/** The tasks of a worker, and the events that follow. */
export interface Scenario {
  readonly tasks: readonly Task[];
  readonly steps: readonly Step[];
  /** It keeps sending heartbeats after the last event. */
  readonly beats: boolean;
}

const ENVELOPE = new Set(["protocol_version", "task_id", "attempt", "tensors"]);
const requestOf = (type: string, changes: object = {}): TaskRequest => {
  const fields = Object.entries(goldenMessage(type)).filter(([key]) => !ENVELOPE.has(key));
  return { ...Object.fromEntries(fields), ...changes } as unknown as TaskRequest;
};

const SHAPES = { rows: [2, 300], dense: [3] } as const;
const ALL_SHAPES = { ...SHAPES, clients: [120], examples: [9, 2] } as const;
/** The payload of controller and worker: varied bytes, so that a misplaced one is noticed. */
const VALUES = Uint8Array.from({ length: 64 + 4 * 603 }, (_, index) => (index * 7) % 251);
export const LENT = VALUES.subarray(64);
const adapter: Adapter = { r: 2, rows: new Float32Array(600).fill(1.5), dense: Float32Array.of(1, 2, 3) };
/** More than the number that may run at once. */
const largeAdapter: Adapter = { r: 2, rows: new Float32Array((CREDIT_BYTES + CHUNK_BYTES) / 4), dense: new Float32Array(0) };

interface Drafted extends Task {
  /** The correct answer. */
  readonly answer: Record<string, unknown>;
  readonly tensors: readonly (keyof typeof ALL_SHAPES)[];
}

function draftTask(rng: Rng, number: number): Drafted {
  const identity = named({ kind: "fit", round: 1, clientId: `c${number}` });
  const kind = rng.next();
  if (kind < 0.1) {
    const table = { tensors: ["clients"], expect: "any", dtypes: ["U8"] } as const;
    return { ...identity, request: requestOf("prepare"), answer: goldenMessage("prepared"), ...table };
  }
  if (kind < 0.25) return { ...identity, request: requestOf("load"), answer: goldenMessage("loaded"), tensors: ["dense"], expect: "any" };
  const payload = isOdds(rng, 0.02) ? largeAdapter : adapter;
  if (kind < 0.3) return { ...identity, request: requestOf("generate"), payload, answer: goldenMessage("generated"), tensors: [] };
  if (kind < 0.4) {
    const values = { tensors: ["examples"], expect: { examples: ALL_SHAPES.examples }, dtypes: ["F64"] } as const;
    return { ...identity, request: requestOf("evaluate"), payload, answer: goldenMessage("evaluated"), ...values };
  }
  const dtype = choose<Dtype>(rng, ["F32", "F32", "BF16", "F16", "I8X256"]);
  return {
    ...identity,
    request: requestOf("fit", { update_dtype: dtype }),
    payload,
    answer: goldenMessage("fitted"),
    tensors: ["rows", "dense"],
    expect: SHAPES,
    dtypes: [dtype],
  };
}

/** Messages of a correct answer: with chunks, or in shared memory if `lent` is given. */
function answer(
  { id: task_id, dtypes: [dtype = "F32"] = [], ...task }: Drafted,
  attempt: number,
  rng: Rng,
  lent: Lent | undefined,
  values = LENT,
): Frames[] {
  const envelope = { task_id, attempt };
  if (isOdds(rng, 0.1)) {
    const kind = choose(rng, ["cancelled", "input", "failed"] as const);
    return [pack({ ...envelope, type: "failure", error: { kind, message: "no", traceback: "Traceback", problems: [] } })];
  }
  let start = 0;
  const tensors = task.tensors.map((name) => {
    const shape = ALL_SHAPES[name];
    const length = encodedBytes(
      dtype,
      shape.reduce((product: number, side) => product * side, 1),
    );
    const bytes = values.subarray(start, start + length);
    const location = lent && { pid: null, fd: lent.fd, offset: lent.offset + start };
    start += length;
    return { name, dtype, shape: [...shape], bytes, crc32: location ? null : crc32(bytes), shared: location ?? null };
  });
  const described = tensors.map((tensor) => ({ ...tensor, bytes: tensor.bytes.length }));
  const { tensors: given, ...fields } = task.answer;
  const header = pack({ ...fields, ...envelope, ...(given === undefined ? {} : { tensors: described }) });
  if (lent || tensors.length === 0) return [header];
  const size = choose(rng, [700, 1 << 20]);
  const chunks = tensors.flatMap(({ name, bytes }) =>
    Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) =>
      pack({ ...envelope, type: "chunk", tensor: name, offset: index * size, data: bytes.slice(index * size, (index + 1) * size) }),
    ),
  );
  return [header, ...chunks, pack({ ...envelope, type: "end" })];
}

/** What a correct worker does, with mutations. */
export function drawScenario(rng: Rng, sources: Sources, board: Lent): Scenario {
  const lent = isOdds(rng, 0.3) ? board : undefined;
  const tasks = Array.from({ length: 1 + below(rng, 2) }, (_, number) => draftTask(rng, number));
  // Whoever is asked to keep an adapter here never answers.
  const memory = isOdds(rng, 0.1) ? "of a machine" : null;
  const hello = pack({ ...goldenMessage("hello"), pid: process.pid, shares_memory: lent !== undefined, memory });
  const beat = (task_id: string | null, step: number) => pack({ type: "beat", activity: "fit", task_id, step, steps: 9 });
  const steps: Step[] = [...(isOdds(rng, 0.3) ? [beat(null, 0)] : []), hello, "turn"];
  for (const task of tasks) {
    if (task.payload && !lent && isOdds(rng, task.payload === largeAdapter ? 0.5 : 0.9)) {
      for (const { byteLength } of [task.payload.rows, task.payload.dense]) {
        for (let left = byteLength; left > 0; left -= CHUNK_BYTES)
          steps.push(pack({ type: "credit", bytes: Math.min(left, CHUNK_BYTES) }), "turn");
      }
    }
    for (let step = below(rng, 3); step > 0; step--) steps.push(beat(task.id, step));
    steps.push(...answer(task, 1, rng, lent), "turn");
  }
  if (isOdds(rng, 0.2)) {
    const [first] = tasks;
    if (first) steps.push("run", "turn", ...answer(first, 2, rng, isOdds(rng, 0.5) ? lent : undefined));
  }
  if (isOdds(rng, 0.95)) for (let count = 1 + below(rng, 4); count > 0; count--) disturb(rng, steps, sources);
  // Another answer among the parts of this one, sent the other way and with other contents.
  if (isOdds(rng, 0.05)) {
    const parts = answer(choose(rng, tasks), 1, rng, lent ? undefined : board, VALUES).slice(below(rng, 2));
    steps.splice(below(rng, steps.length + 1), 0, ...parts);
  }
  return { tasks, steps, beats: isOdds(rng, 0.4) };
}

function disturb(rng: Rng, steps: Step[], sources: Sources): void {
  const [at, other] = [below(rng, steps.length), below(rng, steps.length)];
  const step = steps[at];
  if (step === undefined) return;
  const isMessage = typeof step !== "string";
  switch (below(rng, 10)) {
    case 0: // lost
      steps.splice(at, 1);
      return;
    case 1: // repeated, immediately or late
      steps.splice(isOdds(rng, 0.5) ? at : other, 0, step);
      return;
    case 2: // reordered
      steps.splice(other, 0, ...steps.splice(at, 1 + below(rng, 3)));
      return;
    case 3: // everything repeated
      steps.push(...steps.slice(at, other));
      return;
    case 4: // the rest is lost
      steps.splice(at);
      return;
    case 5:
      steps.splice(at, 0, choose(rng, sources.corpus));
      return;
    case 6: // of another task or attempt
      if (isMessage) steps.splice(other, 0, elsewhere(rng, step));
      return;
    case 7:
      steps.splice(at, 0, choose<Step>(rng, ["turn", "turn", "run", "cancel", "cancel", "stop", "exit"]));
      return;
    default:
      if (isMessage) steps[at] = mutateMessage(rng, step, sources);
  }
}

/** The same message with another digit in its task's id, or as another attempt. */
function elsewhere(rng: Rng, [frame = new Uint8Array(0), ...data]: Frames): Frames {
  const moved = Uint8Array.from(frame);
  const [key, skipped] = choose(rng, [["task/c", 6] as const, ["attempt", 7] as const]);
  const at = Buffer.from(frame).indexOf(key);
  if (at >= 0) moved[at + skipped]! ^= 1 + below(rng, 3);
  return [moved, ...data];
}
