import { stepsOf } from "../config/fit-spec.ts";
import type { RunConfig } from "../config/schema.ts";
import type { ClientColumns } from "../protocol/client-columns.ts";
import type { WorkerMessageOf } from "../protocol/messages.ts";

type Prepared = Pick<WorkerMessageOf<"prepared">, "labels" | "remarks">;
type Columns = Pick<ClientColumns, "n" | "nTruncated" | "labelCounts">;

/** Labels named in one remark. */
const SHOWN = 20;

/**
 * What the user should know about the data before training. An evaluation shows `prepared.remarks` alone, since the adapter
 * may have been trained on other examples.
 */
export function remarksOnTraining(
  { data, fit }: Pick<RunConfig, "data" | "fit">,
  { labels, remarks }: Prepared,
  { n, nTruncated, labelCounts }: Columns,
): readonly string[] {
  const found: string[] = [];
  const trained = new Set(labelCounts.keys);
  const untrained = labels.filter((_, index) => !trained.has(index));
  if (untrained.length > 0) {
    const more = untrained.length > SHOWN ? ` and ${untrained.length - SHOWN} more` : "";
    const subject = untrained.length === 1 ? "label" : "labels";
    found.push(`${subject} ${untrained.slice(0, SHOWN).join(", ")}${more} ${untrained.length === 1 ? "has" : "have"} no training example`);
  }
  // With packing, a client's n counts rows of several examples.
  if (!data.packing && n.every((examples, client) => nTruncated[client] === examples)) {
    found.push(`every training example is cut to data.max_length (${data.maxLength} tokens)`);
  }
  // With local_steps the config alone tells, and is refused.
  const longest = n.reduce((most, size) => Math.max(most, stepsOf(fit, { size })), 0);
  if (fit.epochs !== undefined && fit.warmupSteps >= longest) {
    found.push(`no step has the full learning rate: fit.warmup_steps is ${fit.warmupSteps}, and the longest fit has ${longest} steps`);
  }
  return [...found, ...remarks];
}
