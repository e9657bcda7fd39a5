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
  z.strictObject({ name: z.literal("random"), fraction }),
  z.strictObject({ name: z.literal("stratified"), fraction }),
]);

export const rankAssignmentSpec = z.discriminatedUnion("name", [
  z.strictObject({ name: z.literal("list"), ranks: z.array(rank).min(1) }),
  z.strictObject({ name: z.literal("tiered"), shares: z.record(z.string().regex(/^[1-9]\d*$/, "a rank"), z.number().positive()) }),
]);

export const aggregationSpec = z.discriminatedUnion("name", [
  z.strictObject({
    name: z.literal("segment-wise"),
    weights: z.enum(["examples", "uniform"]).default("examples"),
    damping: z.number().min(0).max(1).default(0),
  }),
  z.strictObject({ name: z.literal("zero-pad-weights") }),
  z.strictObject({ name: z.literal("zero-pad-deltas") }),
  z.strictObject({ name: z.literal("fedit") }),
  z.strictObject({ name: z.literal("ffa-lora") }),
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

export type RankAssignmentSpec = z.output<typeof rankAssignmentSpec>;

/** The list or shares behind a rank assigner, whether it is still a spec or already a policy; undefined for one's own function. */
export function rankSpecOf(rankAssignment: unknown): RankAssignmentSpec | undefined {
  const spec = typeof rankAssignment === "function" && "policy" in rankAssignment ? rankAssignment.policy : rankAssignment;
  return rankAssignmentSpec.safeParse(spec).data;
}

/** The ranks it names, each with where it stands in the spec. */
export function namedRanks(spec: RankAssignmentSpec): readonly { readonly r: number; readonly at: Path }[] {
  return spec.name === "list"
    ? spec.ranks.map((r, place) => ({ r, at: ["ranks", place] }))
    : Object.keys(spec.shares).map((share) => ({ r: Number(share), at: ["shares", share] }));
}
