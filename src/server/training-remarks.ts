import type { RunConfig } from "../config/schema.ts";
import type { WorkerMessageOf } from "../protocol/messages.ts";

type Prepared = Pick<WorkerMessageOf<"prepared">, "labels" | "clients" | "remarks">;

/** Labels named in one remark. */
const SHOWN = 20;

/**
 * What the user should know about the data before training. An evaluation shows `prepared.remarks` alone, since the adapter
 * may have been trained on other examples.
 */
export function remarksOnTraining({ data }: Pick<RunConfig, "data">, { labels, clients, remarks }: Prepared): readonly string[] {
  const found: string[] = [];
  const untrained = labels.filter((_, index) => clients.every((client) => (client.label_counts[index] ?? 0) === 0));
  if (untrained.length > 0) {
    const more = untrained.length > SHOWN ? ` and ${untrained.length - SHOWN} more` : "";
    const subject = untrained.length === 1 ? "label" : "labels";
    found.push(`${subject} ${untrained.slice(0, SHOWN).join(", ")}${more} ${untrained.length === 1 ? "has" : "have"} no training example`);
  }
  // With packing, a client's n counts rows of several examples.
  if (!data.packing && clients.every((client) => client.n_truncated === client.n)) {
    found.push(`every training example is cut to data.max_length (${data.maxLength} tokens)`);
  }
  return [...found, ...remarks];
}
