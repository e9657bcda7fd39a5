import { z } from "zod";
import type { Aggregation, RankAssigner, Selection } from "../strategy/strategy.ts";
import { aggregationSpec, rankAssignmentSpec, selectionSpec, serverOptimizerSpec, updateBoundSpec } from "./policy-specs.ts";
import { withRules } from "./rules.ts";
import { common } from "./sections.ts";

/* The one schema of a run. Policies are `{ name, …options }` in YAML and values in TypeScript. */

/** What a YAML file holds, once its keys are camelCase. */
export const fileSchema = withRules(
  z.strictObject({
    ...common,
    strategy: z.strictObject({
      selection: selectionSpec.default({ name: "all" }),
      rankAssignment: rankAssignmentSpec,
      aggregation: aggregationSpec.prefault({ name: "segment-wise" }),
      serverOptimizer: serverOptimizerSpec.optional(),
      updateBound: updateBoundSpec.optional(),
    }),
  }),
);
export type FileConfig = z.output<typeof fileSchema>;

const isFunction = (value: unknown) => typeof value === "function";
/** `abort: false`, so that the rules that span several keys still run. */
const policy = <T>(isPolicy: (value: unknown) => boolean, { needed, error }: { readonly needed: string; readonly error: string }) =>
  z.custom<T>(isPolicy, { error: ({ input }) => (input === undefined ? `is needed: ${needed}` : error), abort: false });
const selection = policy<Selection>(isFunction, {
  needed: "allClients() takes everybody",
  error: "must be a selection, such as randomSelection({ fraction: 0.3 }), or a function of one's own",
});
const rankAssignment = policy<RankAssigner>(isFunction, {
  needed: "listRanks([8, 4]) gives each client its own",
  error: "must be a rank assigner, such as tieredRanks({ 8: 0.5, 2: 0.5 }), or a function of one's own",
});
const isAggregation = (value: unknown) => typeof value === "object" && value !== null && "begin" in value && "distribute" in value;
const aggregation = policy<Aggregation>(isAggregation, {
  needed: "segmentWise() is PreLort's",
  error: "must be an aggregation, such as segmentWise(): an object with begin and distribute",
});

/** What `federate` takes. */
export const runSchema = withRules(z.strictObject({ ...common, strategy: z.strictObject({ selection, rankAssignment, aggregation }) }));
export type RunInput = z.input<typeof runSchema>;
export type RunConfig = z.output<typeof runSchema>;
