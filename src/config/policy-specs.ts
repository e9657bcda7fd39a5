import { z } from "zod";
import type { Path } from "./tree.ts";

/*
 * Policies as YAML writes them: `{ name, …options }`. The factories in src/strategy put the same into the
 * `policy` of what they make, so that both kinds of config can be checked and recorded alike.
 */

/**
 * z.int() would do, but zod runs no refinement at all after its failure, and the rules that span several keys
 * are refinements: one fraction anywhere would hide what they find.
 */
export const integer = z.number().refine(Number.isSafeInteger, { error: ({ input }) => `must be a whole number, got ${String(input)}` });
export const positive = integer.min(1);
export const rank = positive.max(4096);
const fraction = z.number().gt(0).max(1);

export const selectionSpec = z.discriminatedUnion("name", [
  z.strictObject({ name: z.literal("all") }),
  z.strictObject({ name: z.literal("list"), clients: z.array(z.string()).min(1) }),
  z.strictObject({ name: z.literal("random"), fraction }),
  z.strictObject({ name: z.literal("stratified"), fraction }),
  z.strictObject({ name: z.literal("round-robin"), fraction }),
  z.strictObject({ name: z.literal("by-size"), fraction }),
  z.strictObject({ name: z.literal("power-of-choice"), fraction, candidates: positive }),
  z.strictObject({ name: z.literal("oort"), fraction, preferredSpeed: z.number().positive().optional() }),
]);

const ranks = z.array(rank).min(1);
const rankKey = z.string().regex(/^[1-9]\d*$/, "a rank");
export const rankAssignmentSpec = z.discriminatedUnion("name", [
  z.strictObject({ name: z.literal("list"), ranks }),
  z.strictObject({ name: z.literal("tiered"), shares: z.record(rankKey, z.number().positive()) }),
  z.strictObject({
    name: z.literal("distribution"),
    shape: z.enum(["uniform", "heavy-tail-light", "heavy-tail-strong", "normal"]),
    correlated: z.boolean().default(false),
  }),
  z.strictObject({
    name: z.literal("profile"),
    memoryGiB: z.record(rankKey, z.number().min(0)).refine((needs) => Object.keys(needs).length > 0, "must name at least one rank"),
  }),
  z.strictObject({
    name: z.literal("self-pruning"),
    ranks,
    gamma: z.number().gt(0).lt(1).default(0.99),
    penalty: z.number().min(0),
  }),
]);

const robustSpec = z.discriminatedUnion("name", [
  z.strictObject({ name: z.literal("clip"), norm: z.number().positive() }),
  z.strictObject({ name: z.literal("median") }),
  z.strictObject({ name: z.literal("trimmed-mean"), trim: z.number().gt(0).lt(0.5) }),
  z.strictObject({ name: z.literal("multi-krum"), malicious: positive, keep: positive.optional() }),
]);

const minContributors = positive.default(1);
export const aggregationSpec = z.discriminatedUnion("name", [
  z.strictObject({
    name: z.literal("segment-wise"),
    weights: z.enum(["examples", "uniform"]).default("examples"),
    minContributors,
    robust: robustSpec.optional(),
  }),
  z.strictObject({ name: z.literal("zero-pad-weights") }),
  z.strictObject({ name: z.literal("zero-pad-deltas"), minContributors }),
  z.strictObject({ name: z.literal("fedit") }),
  z.strictObject({ name: z.literal("ffa-lora"), minContributors }),
  z.strictObject({ name: z.literal("hetlora") }),
  z.strictObject({ name: z.literal("flora") }),
  z.strictObject({ name: z.literal("flexlora") }),
  z.strictObject({ name: z.literal("raflora") }),
  z.strictObject({ name: z.literal("hlora") }),
]);

const decay = z.number().min(0).lt(1);
export const serverOptimizerSpec = z.discriminatedUnion("name", [
  z.strictObject({ name: z.literal("momentum"), lr: z.number().positive().default(1), momentum: decay.default(0.9) }),
  z.strictObject({
    name: z.literal("adam"),
    lr: z.number().positive().default(0.01),
    beta1: decay.default(0.9),
    beta2: decay.default(0.99),
    tau: z.number().positive().default(1e-3),
  }),
]);

export const updateBoundSpec = z.strictObject({ factor: z.number().gt(1).default(3) });

export type SelectionSpec = z.output<typeof selectionSpec>;
export type RankAssignmentSpec = z.output<typeof rankAssignmentSpec>;
export type AggregationSpec = z.output<typeof aggregationSpec>;

/** What a selection was made with, whether it is still a spec or already a policy; undefined for one's own function. */
export function selectionSpecOf(selection: unknown): SelectionSpec | undefined {
  return selectionSpec.safeParse(madeWith(selection)).data;
}

/** The same of a rank assigner. */
export function rankSpecOf(rankAssignment: unknown): RankAssignmentSpec | undefined {
  return rankAssignmentSpec.safeParse(madeWith(rankAssignment)).data;
}

/** The same of an aggregation, of which it may tell more: it is wrapped in others. */
export function aggregationSpecOf(aggregation: unknown): AggregationSpec | undefined {
  const { policy } = (aggregation ?? {}) as { readonly policy?: Record<string, unknown> };
  if (!policy) return aggregationSpec.safeParse(aggregation).data;
  const { serverOptimizer: _, updateBound: __, ...inner } = policy;
  return aggregationSpec.safeParse(inner).data;
}

/** The ranks it names, each with where it stands in the spec; none where it spreads clients over whatever tiers there are. */
export function namedRanks(spec: RankAssignmentSpec): readonly { readonly r: number; readonly at: Path }[] {
  const keysOf = (key: string, map: object) => Object.keys(map).map((rank) => ({ r: Number(rank), at: [key, rank] }));
  switch (spec.name) {
    case "list":
    case "self-pruning":
      return spec.ranks.map((r, place) => ({ r, at: ["ranks", place] }));
    case "tiered":
      return keysOf("shares", spec.shares);
    case "profile":
      return keysOf("memoryGiB", spec.memoryGiB);
    case "distribution":
      return [];
  }
}

function madeWith(policy: unknown): unknown {
  return typeof policy === "function" && "policy" in policy ? policy.policy : policy;
}
