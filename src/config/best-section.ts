import { z } from "zod";
import { positive, rank } from "./policy-specs.ts";

/* Keys on the best round: what marks it, when it ends the run, and whose files are kept. */

export const best = z.strictObject({
  metric: z
    .string()
    .min(1)
    .describe(
      "Metric that the rounds are compared by: loss, perplexity, accuracy, macro_f1, token_accuracy, rouge_l, exact_match, bits_per_byte, ece, as far as the task has it, or one of your own task's by its name. Lower is better for loss, perplexity, bits_per_byte and ece, higher for the others named. With rouge_l or exact_match, or a metric of your own and max_new_tokens, text is generated at every evaluation.",
    ),
  at: z
    .union([rank, z.enum(["area", "worst"])])
    .default("area")
    .describe(
      "At which rank: one of lora.tiers; area: under the curve of the metric over log2 rank, divided by its width; worst: the worst of the tiers.",
    ),
  mode: z.enum(["min", "max"]).optional().describe("Whether lower (min) or higher (max) is better. Needed for a metric of your own."),
});
/** How the best round is chosen. */
export type BestSpec = z.output<typeof best>;

export const stopWhen = z.strictObject({
  patience: positive
    .optional()
    .describe(
      "Stop after this many evaluations in a row without an improvement by more than min_delta. Default: no number of them stops the run.",
    ),
  minDelta: z
    .number()
    .min(0)
    .default(0)
    .describe("What the metric must improve by, over the evaluation that last counted as an improvement, to count as one."),
  target: z.number().optional().describe("Stop as soon as the metric reaches this value. Default: no value stops the run."),
});
/** When a run stops before its last round. */
export type StopSpec = z.output<typeof stopWhen>;

export const keepRounds = z.union([z.enum(["all", "best"]), positive]);
export type KeptRounds = z.output<typeof keepRounds>;
