import { RefusedError } from "../errors.ts";
import type { ControllerMessageOf, WorkerMessageOf } from "../protocol/messages.ts";
import { SESSION } from "../protocol/limits.ts";
import { ROUNDER } from "../tensor/fold-kernel.ts";
import type { EncodedIntegers } from "../tensor/integers.ts";
import type { Tensor } from "./connection.ts";

type Spec = NonNullable<ControllerMessageOf<"fit">["partial_sum"]>;

/** A sum under way; `shape` is that of the longest update in it. */
interface Sum {
  readonly shape: readonly number[];
  readonly integers: Float64Array;
}

/** The partial sum of a worker: updates that it holds until they are granted, and the sum of those that were. */
export class HeldSum {
  readonly #basis: Spec["basis"];
  readonly #waiting = new Map<string, readonly Tensor<Float32Array>[]>();
  #members: WorkerMessageOf<"collected">["members"] = [];
  #sums = new Map<Tensor["name"], Sum>();

  constructor({ basis }: Spec) {
    this.#basis = basis;
  }

  isOf(basis: Spec["basis"]): boolean {
    return JSON.stringify(basis) === JSON.stringify(this.#basis);
  }

  /** Keeps an update until it is granted, and returns its norm. */
  hold(task: ControllerMessageOf<"fit">, update: readonly Tensor<Float32Array>[]): number {
    this.#waiting.set(keyOf(task), update);
    return Math.sqrt(update.flatMap(({ values }) => [...values]).reduce((sum, value) => sum + value * value, 0));
  }

  grant({ weight, ...fit }: ControllerMessageOf<"grant">): void {
    const update = this.#waiting.get(keyOf(fit));
    this.#waiting.delete(keyOf(fit));
    if (!update || weight === null) return;
    for (const tensor of update) this.#add(tensor, weight * this.#basis.resolution);
    this.#members.push({ task_id: fit.task_id, attempt: fit.attempt });
  }

  /** The sum; the next one begins at zero. */
  collect({ task_id, attempt, basis, dtype }: ControllerMessageOf<"collect">) {
    if (!this.isOf(basis)) throw new RefusedError("collect", "the basis of the fits before it", "another");
    const message: WorkerMessageOf<"collected"> = {
      ...SESSION,
      task_id,
      attempt,
      type: "collected",
      basis,
      members: this.#members,
      tensors: [],
    };
    const payload = [...this.#sums].map(([name, { shape, integers }]) => {
      return { name, shape, values: dtype === "F64" ? asFloat64(integers) : packed(integers) };
    });
    this.#members = [];
    this.#sums = new Map();
    return { message, payload };
  }

  #add({ name, shape, values }: Tensor<Float32Array>, factor: number): void {
    const { integers: before = new Float64Array(), shape: known = shape } = this.#sums.get(name) ?? {};
    const integers = new Float64Array(Math.max(before.length, values.length));
    integers.set(before);
    for (const [index, value] of values.entries()) integers[index] = (integers[index] as number) + (value * factor + ROUNDER - ROUNDER);
    this.#sums.set(name, { shape: values.length > before.length ? shape : known, integers });
  }
}

function asFloat64(integers: Float64Array): EncodedIntegers {
  return { dtype: "F64", length: integers.length, bytes: new Uint8Array(integers.buffer) };
}

/** In seven bytes each, which hold any of them; a worker with more to send would choose fewer. */
function packed(integers: Float64Array): EncodedIntegers {
  const bytes = new Uint8Array(7 * integers.length);
  for (const [index, integer] of integers.entries()) {
    const eight = new Uint8Array(BigInt64Array.of(BigInt(integer)).buffer);
    bytes.set(eight.subarray(0, 7), 7 * index);
  }
  return { dtype: "I56", length: integers.length, bytes };
}

function keyOf({ task_id, attempt }: { readonly task_id: string; readonly attempt: number }): string {
  return `${task_id} ${attempt}`;
}
