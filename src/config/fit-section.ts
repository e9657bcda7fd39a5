import { z } from "zod";
import { orName } from "./or-name.ts";
import { integer, positive } from "./policy-specs.ts";

/* The `fit` section: how a client trains in a round. */

const weightDecay = z
  .number()
  .min(0)
  .default(0)
  .describe(
    "Weight decay of A, B and weight matrices of modules_to_save, not of biases and norms. Components that a step's truncation left out do not decay in it.",
  );
const beta = z.number().min(0).lt(1);
const adam = {
  betas: z
    .array(beta)
    .refine(({ length }) => length === 2, "must be two numbers")
    .readonly()
    .default([0.9, 0.999])
    .describe("Decay of the running means of the gradient and of its square."),
  eps: z.number().positive().default(1e-8).describe("Added to the root of the mean square."),
  weightDecay,
};

const optimizers = z.discriminatedUnion("name", [
  z.strictObject({ name: z.literal("adamw").describe("AdamW (arXiv 1711.05101), as in PyTorch."), ...adam }),
  z.strictObject({
    name: z.literal("sgd").describe("Gradient descent, as in PyTorch."),
    momentum: beta.default(0).describe("Momentum; 0 for none."),
    nesterov: z.boolean().default(false).describe("Nesterov momentum."),
    weightDecay,
  }),
  z.strictObject({
    name: z
      .literal("adafactor")
      .describe("Adafactor (arXiv 1804.04235), as in transformers: little memory, at the given rate, without momentum."),
    weightDecay,
  }),
  z.strictObject({
    name: z.literal("adamw_8bit").describe("AdamW with a state of 8 bits, by bitsandbytes; of tensors below 4,096 values, 32. Needs CUDA."),
    ...adam,
  }),
]);

/** Without epochs. */
export const LOCAL_STEPS = 10;

export const fit = z.strictObject({
  objective: z
    .enum(["none", "sum", "sampled", "stratified"])
    .default("stratified")
    .describe(
      "How a client trains the tiers up to its rank. none: only its full rank; sum: every tier on each batch, one pass per tier; sampled: one random tier for each step; stratified: one pass, with one tier for each example.",
    ),
  fullWeight: z
    .number()
    .gt(0)
    .max(1)
    .nullable()
    .default(0.9)
    .describe("λ, the weight of the client's own rank; the rest is spread evenly over its lower tiers. null weighs all its tiers equally."),
  localSteps: integer.min(0).default(LOCAL_STEPS).describe("Optimizer steps of a client in a round."),
  epochs: z
    .number()
    .positive()
    .max(1e6)
    .optional()
    .describe(
      "Passes of a client over its examples in a round, in place of local_steps: the nearest whole number of steps, at least one. Batches go on from one pass into the next.",
    ),
  batchSize: positive.default(16).describe("Examples in a forward pass."),
  gradientAccumulationSteps: positive.default(1).describe("Batches per optimizer step; the loss is the mean over all their targets."),
  gradientCheckpointing: z
    .boolean()
    .default(false)
    .describe("Recompute activations in the backward pass instead of keeping them: less memory, more time."),
  groupByLength: z.boolean().default(false).describe("Form batches from examples of similar length, to reduce padding."),
  optimizer: orName(optimizers)
    .prefault("adamw")
    .describe(
      "The clients' optimizer, which starts anew at each fit unless client_state keeps it: adamw, sgd, adafactor or adamw_8bit, a name or { name, …options }.",
    ),
  clientState: z
    .enum(["new", "keep"])
    .default("new")
    .describe(
      "What a client's optimizer starts a fit with. new: nothing; keep: its state at the end of the client's last fit that counted, on whichever worker, so its steps and means go on. Rates, and warmup_steps, begin anew with each fit. The state travels with the update and lies in client-states/ of the run's folder, one file a client. Needs fixed ranks and an aggregation whose components keep their meaning.",
    ),
  lr: z.number().positive().default(3e-4).describe("Learning rate."),
  lrBRatio: z
    .number()
    .positive()
    .default(1)
    .describe("Learning rate of B as a multiple of that of A, which is lr; LoRA+ (arXiv 2402.12354) takes 16."),
  headLr: z.number().positive().optional().describe("Learning rate of modules_to_save. Default: lr."),
  maxGradNorm: z
    .number()
    .min(0)
    .default(0)
    .describe(
      "Largest L2 norm of a step's gradients, over all trained parameters together; larger gradients are scaled down to it. 0 turns clipping off; otherwise metrics.jsonl has grad_norm, the mean norm before clipping.",
    ),
  actingTail: z
    .number()
    .min(0)
    .max(1)
    .default(0)
    .describe(
      "Share of a client's steps in which the components above its rank act too, frozen and merged into the base model, so that its own learn beside them. Its downlink is then the whole adapter.",
    ),
  lrSchedule: z
    .enum(["constant", "linear", "cosine", "inverse_sqrt"])
    .default("constant")
    .describe(
      "How the learning rates fall from round to round, after warmup_rounds: linear and cosine would reach min_lr in the round after the last.",
    ),
  minLr: z
    .number()
    .min(0)
    .default(0)
    .describe("Where the schedule of lr ends, or the least that inverse_sqrt goes to; the other rates keep their ratio to lr."),
  warmupRounds: integer
    .min(0)
    .default(0)
    .describe(
      "Rounds over which the learning rates rise in equal steps to their full value: with 2, to a third, two thirds, and all of it in the third round.",
    ),
  warmupSteps: integer
    .min(0)
    .default(0)
    .describe("First steps of each fit over which its learning rates rise in equal steps to their full value, as with warmup_rounds."),
  labelSmoothing: z
    .number()
    .min(0)
    .lt(1)
    .default(0)
    .describe("Share of each target that is spread evenly over all classes or tokens in training; evaluation does without."),
  neftuneAlpha: z
    .number()
    .min(0)
    .default(0)
    .describe("Language and text models: strength of the uniform noise on token embeddings in training (NEFTune, arXiv 2310.05914)."),
  proximalMu: z
    .number()
    .min(0)
    .default(0)
    .describe(
      "μ of FedProx (arXiv 1812.06127): adds μ/2 · ‖w − w_received‖² over the trained parameters to what a client minimises, but not to the loss it reports.",
    ),
});
