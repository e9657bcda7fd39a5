import { setImmediate } from "node:timers/promises";
import { createRng, deriveSeed } from "../base/rng.ts";
import { RefusedError } from "../errors.ts";
import type { ControllerMessageOf, WorkerMessageOf } from "../protocol/messages.ts";
import { SESSION } from "../protocol/limits.ts";
import type { Tensors } from "./connection.ts";
import { FEATURES, LABELS } from "./tiny-data.ts";
import { judge, SECONDS, type TinyModel, withMerged } from "./tiny-model.ts";

/**
 * The tiny model's answer: its labels, the likeliest first, for a point that the conversation stands for; each label is a token. With a
 * temperature, the order is drawn from the seed.
 */
export async function generate(
  task: ControllerMessageOf<"generate">,
  { rows, dense = new Float32Array(0), merged }: Tensors,
  report: (step: number, steps: number) => void,
  { model }: { readonly model: TinyModel },
  say: (text: WorkerMessageOf<"text">) => void,
): Promise<WorkerMessageOf<"generated">> {
  if (!rows) throw new RefusedError("a question", "rows", "none");
  const used = merged ? withMerged(model, merged, task.scale) : model;
  const envelope = { ...SESSION, task_id: task.task_id, attempt: task.attempt };
  const answers: WorkerMessageOf<"generated">["answers"] = [];
  for (const { r, messages } of task.asked) {
    const point = createRng(deriveSeed(JSON.stringify([messages, task.fields]), "point"));
    const x = Array.from({ length: FEATURES }, () => 4 * point.next() - 2);
    const { probabilities } = judge(used, { r, rows, dense }, { r, scale: task.scale }, { x, y: 0 });
    const noise = createRng(deriveSeed(task.seed, "generate"));
    const worth = probabilities.map((p) => Math.log(p) - task.temperature * Math.log(-Math.log(noise.next() || Number.MIN_VALUE)));
    const order = LABELS.map((label, index) => ({ label, worth: worth[index]! })).toSorted((a, b) => b.worth - a.worth);
    const said = order.slice(0, task.max_new_tokens).map(({ label }) => label);
    for (const [index, label] of said.entries()) {
      await setImmediate();
      report(index, said.length);
      say({ ...envelope, type: "text", r, text: index === 0 ? label : ` ${label}` });
    }
    const finish = said.length === LABELS.length ? "stop" : "length";
    answers.push({ r, text: said.join(" "), tokens: said.length, finish, seconds: SECONDS, labels: null });
  }
  return { ...envelope, type: "generated", form: task.raw ? "raw" : "template", answers };
}
