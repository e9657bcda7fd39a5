import { z } from "zod";
import type { Path } from "./tree.ts";

/*
 * Policies as in YAML: `{ name, …options }`. The factories in src/strategy put the same into `policy` of what they make, so that both
 * kinds of config are checked and recorded alike.
 */

/**
 * Not z.int(): after it fails zod runs no refinements, and rules that span several keys are refinements. One fraction anywhere would
 * hide the problems that they find.
 */
export const integer = z
  .number()
  .refine(Number.isSafeInteger, { error: ({ input }) => `must be a whole number, got ${String(input)}` })
  .meta({ type: "integer" });
export const positive = integer.min(1);
export const rank = positive.max(4096);
const fraction = z.number().gt(0).max(1).describe("Share of the clients that train in a round; at least one client does.");
/** A policy's name, described by what it does. */
export const called = <N extends string>(name: N, description: string) => z.literal(name).describe(description);

export const selectionSpec = z.discriminatedUnion("name", [
  z.strictObject({ name: called("all", "Every client trains in every round.") }),
  z.strictObject({
    name: called("list", "The listed clients train in every round."),
    clients: z.array(z.string()).min(1).describe("Ids of the clients: c00, c01 and so on, or as prelort plan shows them."),
  }),
  z.strictObject({ name: called("random", "Clients drawn uniformly at random."), fraction }),
  z.strictObject({ name: called("stratified", "Clients drawn at random within each tier, so that every segment is trained."), fraction }),
  z.strictObject({ name: called("round-robin", "Clients in rotation."), fraction }),
  z.strictObject({ name: called("by-size", "Clients drawn with probability proportional to their number of examples."), fraction }),
  z.strictObject({
    name: called("power-of-choice", "Among random candidates, those with the highest loss at their own rank (arXiv 2010.01243)."),
    fraction,
    candidates: positive.describe("Number of candidates, for which the loss is computed; at least as many as train."),
  }),
  z.strictObject({
    name: called("oort", "Clients by their utility and staleness (arXiv 2010.06081), with the speeds declared in data.profiles."),
    fraction,
    preferredSpeed: z
      .number()
      .positive()
      .optional()
      .describe("Local steps per second; slower clients score lower. Default: speed decides only which new clients are tried first."),
  }),
]);

const ranks = z.array(rank).min(1).describe("One rank for each client, in the order of the clients.");
const rankKey = z.string().regex(/^[1-9]\d*$/, "a rank");
export const rankAssignmentSpec = z.discriminatedUnion("name", [
  z.strictObject({ name: called("list", "Each client's rank is listed."), ranks }),
  z.strictObject({
    name: called("tiered", "Shares of the clients, drawn at random, get each rank."),
    shares: z.record(rankKey, z.number().positive()).describe("Share of the clients for each rank, summing to 1: { 8: 0.25, 2: 0.75 }."),
  }),
  z.strictObject({
    name: called("distribution", "Ranks drawn over the tiers, as in FlexLoRA's experiments (arXiv 2402.11505)."),
    shape: z.enum(["uniform", "heavy-tail-light", "heavy-tail-strong", "normal"]).describe("How the ranks are distributed over the tiers."),
    correlated: z.boolean().default(false).describe("Give larger ranks to clients with more examples."),
  }),
  z.strictObject({
    name: called("profile", "The largest rank that fits the memory declared in data.profiles."),
    memoryGiB: z
      .record(rankKey, z.number().min(0))
      .refine((needs) => Object.keys(needs).length > 0, "must name at least one rank")
      .describe("Memory in GiB that each rank needs: { 16: 24, 8: 12, 1: 0 }."),
  }),
  z.strictObject({
    name: called("self-pruning", "Listed ranks, which clients lower as they train; HetLoRA's rank self-pruning (arXiv 2401.06432)."),
    ranks,
    gamma: z.number().gt(0).lt(1).default(0.99).describe("γ: a rank r may drop to the largest tier ≤ ⌊γ·r⌋."),
    penalty: z.number().min(0).describe("λ of the penalty on the components above the next lower tier; 0 for none."),
  }),
]);

const robustSpec = z.discriminatedUnion("name", [
  z.strictObject({
    name: called("clip", "Scales larger updates down to an L2 norm before they are averaged."),
    norm: z.number().positive().describe("Largest L2 norm of a client's update."),
  }),
  z.strictObject({ name: called("median", "The median of each value over the clients.") }),
  z.strictObject({
    name: called("trimmed-mean", "The mean of each value, without the clients with the smallest and the largest."),
    trim: z.number().gt(0).lt(0.5).describe("Share of the clients to leave out at each end."),
  }),
  z.strictObject({
    name: called("multi-krum", "The mean over the clients with the updates closest to the others'."),
    malicious: positive.describe("Number of malicious clients to withstand in a segment."),
    keep: positive.optional().describe("Number of clients to average over. Default: all but malicious."),
  }),
]);

const minContributors = positive
  .default(1)
  .describe("Minimum number of clients that must train a segment in a round to change it, and that must report to change modules_to_save.");
export const aggregationSpec = z.discriminatedUnion("name", [
  z.strictObject({
    name: called(
      "segment-wise",
      "Each segment averaged over the clients that train it: PreLort (arXiv 2606.15963); with fit.objective none, RBLA and FediLoRA.",
    ),
    weights: z.enum(["examples", "uniform"]).default("examples").describe("Weigh clients by their training examples, or equally."),
    minContributors,
    robust: robustSpec
      .optional()
      .describe("Robust replacement for the mean, which a few malicious clients cannot move at will. Default: the mean."),
  }),
  z.strictObject({ name: called("zero-pad-weights", "Weights padded with zeros to the largest rank and averaged over all clients.") }),
  z.strictObject({
    name: called(
      "zero-pad-deltas",
      "Changes padded with zeros to the largest rank and averaged over all clients: components a client does not have count as unchanged.",
    ),
    minContributors,
  }),
  z.strictObject({ name: called("fedit", "Plain averaging of both factors (arXiv 2305.05644); all clients need the same rank.") }),
  z.strictObject({ name: called("ffa-lora", "A frozen and shared, B averaged (arXiv 2403.12313)."), minContributors }),
  z.strictObject({ name: called("hetlora", "Zero-padded weights, weighted by the norm of each client's product B·A (arXiv 2401.06432).") }),
  z.strictObject({
    name: called(
      "flora",
      "Stacks the clients' factors and merges them into the base model permanently (arXiv 2409.05976). Tiers are evaluated by SVD.",
    ),
    incrementRank: rank
      .optional()
      .describe(
        "Components that a round merges at most: the largest of its SVD. The rest is added to the next round, and A is carried over. Default: all.",
      ),
  }),
  z.strictObject({
    name: called(
      "fedex-lora",
      "Plain averaging of both factors; what it leaves out of the mean product is merged into the base model (arXiv 2410.09432). All clients need the same rank.",
    ),
  }),
  z.strictObject({ name: called("flexlora", "SVD of the mean product B·A (arXiv 2402.11505).") }),
  z.strictObject({
    name: called("raflora", "As flexlora, with each segment's products averaged over the clients that train it (arXiv 2602.13486)."),
  }),
  z.strictObject({
    name: called("fedsvd", "As ffa-lora, with A given the directions of the product's SVD after every round (arXiv 2505.12805)."),
  }),
  z.strictObject({
    name: called(
      "fed-plora",
      "Components trained in a new random order every round, each averaged over the clients that train it, with those that a client does not train folded into its base model (arXiv 2602.16936). Needs fit.acting_tail: 1.",
    ),
  }),
  z.strictObject({
    name: called(
      "fedrora",
      "As flexlora, with directions shared and magnitudes each client's own: it gets the directions of which it has most (arXiv 2609.00632).",
    ),
  }),
  z.strictObject({
    name: called(
      "random-components",
      "As zero-pad-deltas, with the components in a new random order every round, after FSLoRA (arXiv 2501.19389).",
    ),
  }),
  z.strictObject({
    name: called(
      "product-deltas",
      "Mean change of the product B·A, with momentum, added to the last product; then SVD, the best adapter at every rank at once. Ours.",
    ),
    momentum: z.number().min(0).lt(1).default(0.5).describe("Share of its velocity that a round keeps; 0 for no momentum."),
    momentumRank: rank.optional().describe("Rank that the velocity is cut to. Default: 2 · lora.r."),
    tau: z
      .number()
      .min(0)
      .lt(1)
      .default(0.001)
      .describe("Components with a singular value below this share of the largest are left out: they keep their A, with B = 0."),
  }),
  z.strictObject({ name: called("hlora", "As flexlora, with all singular values in A (arXiv 2503.00813).") }),
]);

export const updateBoundSpec = z.strictObject({
  factor: z
    .number()
    .gt(1)
    .default(3)
    .describe("An update is refused if its L2 norm exceeds this many times the median norm of its tier's updates in earlier rounds."),
});

export type SelectionSpec = z.output<typeof selectionSpec>;
export type RankAssignmentSpec = z.output<typeof rankAssignmentSpec>;
export type AggregationSpec = z.output<typeof aggregationSpec>;

/** The spec of a selection, which may be a spec or a policy; undefined for a user's own function. */
export function selectionSpecOf(selection: unknown): SelectionSpec | undefined {
  return selectionSpec.safeParse(specIn(selection)).data;
}

/** The same for a rank assigner. */
export function rankSpecOf(rankAssignment: unknown): RankAssignmentSpec | undefined {
  return rankAssignmentSpec.safeParse(specIn(rankAssignment)).data;
}

/** The same for an aggregation, without its wrappers. */
export function aggregationSpecOf(aggregation: unknown): AggregationSpec | undefined {
  const { policy } = (aggregation ?? {}) as { readonly policy?: Record<string, unknown> };
  if (!policy) return aggregationSpec.safeParse(aggregation).data;
  const { serverOptimizer: _, updateBound: __, ...inner } = policy;
  return aggregationSpec.safeParse(inner).data;
}

/** The ranks that a spec names, each with its path in the spec; none if it uses the run's tiers. */
export function namedRanks(spec: RankAssignmentSpec): readonly { readonly r: number; readonly at: Path }[] {
  const keysOf = (key: string, map: object) => Object.keys(map).map((rank) => ({ r: Number(rank), at: [key, rank] }));
  switch (spec.name) {
    case "list":
    case "self-pruning":
      return spec.ranks.map((r, index) => ({ r, at: ["ranks", index] }));
    case "tiered":
      return keysOf("shares", spec.shares);
    case "profile":
      return keysOf("memoryGiB", spec.memoryGiB);
    case "distribution":
      return [];
  }
}

function specIn(policy: unknown): unknown {
  return typeof policy === "function" && "policy" in policy ? policy.policy : policy;
}
