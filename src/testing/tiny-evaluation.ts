import { RefusedError } from "../errors.ts";
import type { ExampleColumn } from "../protocol/example-values.ts";
import type { ControllerMessageOf, WorkerMessageOf } from "../protocol/messages.ts";
import { SESSION } from "../protocol/limits.ts";
import type { Tensor, Tensors } from "./connection.ts";
import { examplesOf, type TinyData } from "./tiny-data.ts";
import { type Judged, judge, SECONDS, type TinyModel, withMerged } from "./tiny-model.ts";

type Answered = Judged & { readonly y: number };
const COLUMNS: readonly (readonly [ExampleColumn, (answered: Answered) => number])[] = [
  ["loss", ({ loss }) => loss],
  ["targets", () => 1],
  ["predicted", ({ predicted }) => predicted],
  ["actual", ({ y }) => y],
  ["confidence", ({ probabilities, predicted }) => probabilities[predicted] as number],
];

/** The values of a range of the examples at each of the ranks. */
export function evaluate(
  task: ControllerMessageOf<"evaluate">,
  { rows, dense = new Float32Array(0), merged }: Tensors,
  { model, data }: { readonly model: TinyModel; readonly data: TinyData },
): { readonly message: WorkerMessageOf<"evaluated">; readonly payload: readonly Tensor[] } {
  if (!rows) throw new RefusedError("an evaluation", "rows", "none");
  const used = merged ? withMerged(model, merged, task.scale) : model;
  const examples = examplesOf(task, data).slice(task.start, task.start + task.count);
  const adapter = { r: Math.max(...task.ranks), rows, dense };
  const answered = task.ranks.flatMap((r) =>
    examples.map((example) => ({ y: example.y, ...judge(used, adapter, { r, scale: task.scale }, example) })),
  );
  const values = Float64Array.from(COLUMNS.flatMap(([, of]) => answered.map(of)));
  const message: WorkerMessageOf<"evaluated"> = {
    ...SESSION,
    task_id: task.task_id,
    attempt: task.attempt,
    type: "evaluated",
    columns: COLUMNS.map(([name]) => name),
    metrics: [],
    samples: [],
    seconds: SECONDS,
    tensors: [],
  };
  const encoded = { dtype: "F64", length: values.length, bytes: new Uint8Array(values.buffer) } as const;
  return { message, payload: [{ name: "examples", shape: [COLUMNS.length, answered.length], values: encoded }] };
}
