import type { RunConfig } from "../config/schema.ts";
import type { WorkerMessageOf } from "../protocol/messages.ts";

type Prepared = Pick<WorkerMessageOf<"prepared">, "labels" | "clients" | "remarks">;

/** Labels named in one remark. */
const SHOWN = 20;

/**
 * What one should know of the data before training on it. An evaluation takes `prepared.remarks` alone, since the examples
 * that are dealt out for it need not be those that the adapter was trained on.
 */
export function remarksOnTraining({ data }: Pick<RunConfig, "data">, { labels, clients, remarks }: Prepared): readonly string[] {
  const found: string[] = [];
  const lacking = labels.filter((_, place) => clients.every((client) => (client.label_counts[place] ?? 0) === 0));
  if (lacking.length > 0) {
    const more = lacking.length > SHOWN ? ` and ${lacking.length - SHOWN} more` : "";
    const subject = lacking.length === 1 ? "label" : "labels";
    found.push(`${subject} ${lacking.slice(0, SHOWN).join(", ")}${more} ${lacking.length === 1 ? "has" : "have"} no training example`);
  }
  // Packed, a client's n counts rows of several examples.
  if (!data.packing && clients.every((client) => client.n_truncated === client.n)) {
    found.push(`every training example is cut to data.max_length (${data.maxLength} tokens)`);
  }
  return [...found, ...remarks];
}
