import { z } from "zod";
import { integer, positive } from "./policy-specs.ts";

/* The `data` section: what examples consist of, and how they are divided among clients. */

const column = (description: string) => z.string().min(1).describe(description);
const minExamples = positive
  .default(10)
  .describe("Minimum number of examples of each client, including those held out by client_eval_examples.");

export const partition = z.discriminatedUnion("name", [
  z.strictObject({ name: z.literal("iid").describe("Clients of equal size, drawn at random.") }),
  z.strictObject({
    name: z
      .literal("dirichlet")
      .describe("Spreads each value of a column over the clients, in shares drawn from Dirichlet(alpha) (arXiv 1909.06335)."),
    by: column("Column with the values to spread unevenly over the clients."),
    alpha: z.number().positive().describe("Parameter of the Dirichlet distribution: the smaller, the more uneven."),
    minExamples,
  }),
  z.strictObject({
    name: z.literal("size").describe("Clients of different sizes, each with the same mix of values (arXiv 2102.02079)."),
    alpha: z
      .number()
      .positive()
      .optional()
      .describe("Draws the sizes from Dirichlet(alpha): the smaller, the more uneven. Give this or shares."),
    shares: z
      .array(z.number().positive())
      .min(1)
      .readonly()
      .optional()
      .describe("The clients' relative sizes, one for each client; data.clients may then be left out. Give this or alpha."),
    minExamples,
  }),
  z.strictObject({
    name: z
      .literal("pathological")
      .describe("Gives each client a few values of a column, and each value to equally many clients (arXiv 1602.05629)."),
    by: column("Column with the values to divide among the clients."),
    perClient: positive.describe("Values that each client holds."),
  }),
  z.strictObject({
    name: z.literal("value").describe("Makes each value of a column a client, the most frequent first."),
    by: column("Column with a value for each client: all values, or the data.clients most frequent ones; other examples are left out."),
  }),
  z.strictObject({
    name: z
      .literal("files")
      .describe("Makes each file of the folder data.path a client, in the order of names: all, or the first data.clients of them."),
  }),
]);

const profile = z.strictObject({
  memoryGiB: z.number().positive().optional().describe("Memory of the client's device, in GiB."),
  speed: z.number().positive().optional().describe("Speed of the client's device, in local steps per second."),
});

export const data = z.strictObject({
  path: z
    .string()
    .min(1)
    .describe(
      "Training data: a JSONL, JSON, CSV, TSV or Parquet file; a folder of such files, of texts or of images (in YAML relative to the config file); a Hugging Face dataset by folder or name; or prelort:NAME for data that prelort setup provides.",
    ),
  subset: z.string().min(1).optional().describe("Configuration of a Hugging Face dataset."),
  split: z.string().min(1).optional().describe("Split of a Hugging Face dataset. Default: train."),
  evalPath: z
    .string()
    .min(1)
    .optional()
    .describe("Data to evaluate the global adapter on, given like path. Default: examples drawn from path and held out from all clients."),
  evalSplit: z.string().min(1).optional().describe("Split to evaluate on: of eval_path if given, else of path."),
  text: z
    .string()
    .min(1)
    .optional()
    .describe(
      'Template of the text to classify, or of the whole text that a causal-lm learns. Columns are in braces, such as "{gloss}"; a part in [[ ]] is left out where one of its columns is empty.',
    ),
  label: column("Classification: column with the label; with model.problem_type, with the labels or the number.").optional(),
  labelSeparator: z
    .string()
    .min(1)
    .optional()
    .describe('multi_label_classification: what stands between the labels in a cell of text. A list needs none. Default: ";".'),
  image: column('image-classification: column with the image. Default: "image", as in folders of images.').optional(),
  prompt: z.string().optional().describe("Language models: template of the prompt, which the loss leaves out."),
  answer: z.string().min(1).optional().describe("Language models: template of the answer, which the loss is computed on."),
  messages: column(
    "causal-lm: column with a conversation, a list of { role, content } or { from, value }. The loss is computed on the assistant's turns.",
  ).optional(),
  chat: z.boolean().default(false).describe("causal-lm: write prompt and answer as turns of the model's chat template."),
  maxLength: positive
    .default(256)
    .describe("Maximum number of tokens in an example; longer examples are truncated, and counted in the report."),
  packing: z
    .boolean()
    .default(false)
    .describe(
      "causal-lm: put several of a client's examples into one row of max_length tokens instead of padding; each example attends only to itself.",
    ),
  maxExamples: positive.optional().describe("Training examples to draw from the data. Default: all."),
  evalExamples: positive
    .default(256)
    .describe("Examples to evaluate the global adapter on, held out from all clients; with eval_path, at most this many of its examples."),
  clientEvalExamples: integer
    .min(0)
    .default(0)
    .describe("Examples of each client to hold out from its training, for evaluating the adapter at the client's own rank."),
  clients: positive
    .optional()
    .describe("Number of clients. Required unless the partition determines it: value, files, or size with shares."),
  profiles: z
    .array(profile)
    .readonly()
    .optional()
    .describe("Declared devices of the clients, one for each, for the policies profile and oort."),
  partition: partition.default({ name: "iid" }).describe("How the training examples are divided among the clients."),
});
