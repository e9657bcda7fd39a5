import { z } from "zod";
import { count, list, positive, request, seed, task, tensors, text } from "./fields.ts";
import { dataSpec } from "./specs.ts";

/* Questions to a trained model, and its answers. */

/** What one rank is asked: a conversation that ends with the user, or nothing if `fields` fill the template. */
const asked = z.strictObject({
  /** The adapter's `rows` have the largest of these ranks. */
  r: positive,
  messages: z.array(z.strictObject({ role: z.enum(["system", "user", "assistant"]), content: z.string() })),
});

const answered = z.strictObject({
  r: positive,
  /** The whole answer; a classifier's is its likeliest label. */
  text,
  /** Generated, with the end-of-text. */
  tokens: count,
  /** Why it ended: by the model's own end-of-text, or by max_new_tokens or the model's last position. */
  finish: z.enum(["stop", "length"]),
  seconds: z.number(),
  /** A classifier's likeliest labels, the likeliest first. */
  labels: list(z.strictObject({ label: z.string(), probability: z.number() })).nullable(),
});

/** Asks the model at some ranks, one after the other; the worker sends `text` while an answer grows. */
export const generationRequest = z.strictObject({
  ...request,
  type: z.literal("generate"),
  asked: z.array(asked).min(1),
  scale: z.number(),
  /** Every rank samples from it alone. */
  seed,
  /** Its templates, and whether it has conversations. */
  data: dataSpec,
  /** Values of the template's columns, by name. */
  fields: z.record(z.string(), z.string()),
  /** Tokenise the prompt as it is. */
  raw: z.boolean(),
  max_new_tokens: positive,
  /** 0: the likeliest token at each step. */
  temperature: z.number().nonnegative(),
  top_p: z.number().positive().max(1),
  tensors,
});

export const generationReports = [
  /** The next piece of an answer that is still growing. */
  z.strictObject({ ...task, type: z.literal("text"), r: positive, text }),
  z.strictObject({
    ...task,
    type: z.literal("generated"),
    /** By the model's chat template, by the config's template, as the beginning of a text that is continued, or as it is. */
    form: z.enum(["chat", "template", "text", "raw"]),
    /** In the order in which they were asked. */
    answers: list(answered),
  }),
] as const;
