import { RefusedError } from "../errors.ts";
import type { ControllerMessageOf, WorkerMessageOf } from "../protocol/messages.ts";
import { SESSION } from "../protocol/limits.ts";
import type { Tensors } from "./connection.ts";
import { examplesOf, LABELS, type TinyData } from "./tiny-data.ts";
import { finite, judge, SECONDS, type TinyModel, withMerged } from "./tiny-model.ts";

/** Sums over a range of the examples at each of the ranks. */
export function evaluate(
  task: ControllerMessageOf<"evaluate">,
  { rows, dense = new Float32Array(0), merged }: Tensors,
  { model, data }: { readonly model: TinyModel; readonly data: TinyData },
): WorkerMessageOf<"evaluated"> {
  if (!rows) throw new RefusedError("an evaluation", "rows", "none");
  const used = merged ? withMerged(model, merged, task.scale) : model;
  const examples = examplesOf(task, data).slice(task.start, task.start + task.count);
  const adapter = { r: Math.max(...task.ranks), rows, dense };
  const tiers = task.ranks.map((r) => {
    const judged = examples.map((example) => ({ y: example.y, ...judge(used, adapter, { r, scale: task.scale }, example) }));
    const count = (belongs: (one: (typeof judged)[number], label: number) => boolean) =>
      LABELS.map((_, label) => judged.filter((example) => belongs(example, label)).length);
    const labels = {
      hits: count(({ y, predicted }, label) => y === label && predicted === label),
      predicted: count(({ predicted }, label) => predicted === label),
      actual: count(({ y }, label) => y === label),
    };
    const loss_sum = judged.reduce((sum, { loss }) => sum + loss, 0);
    return {
      r,
      loss_sum: finite(loss_sum),
      n_tokens: examples.length,
      n_examples: examples.length,
      labels,
      rouge_l_sum: null,
      metrics: {},
    };
  });
  return { ...SESSION, task_id: task.task_id, attempt: task.attempt, type: "evaluated", tiers, samples: [], seconds: SECONDS };
}
