import { z } from "zod";
import type { Aggregation, RankAssigner, Selection } from "../strategy/strategy.ts";
import { orOwn } from "./own-policy-spec.ts";
import { aggregationSpec, rankAssignmentSpec, selectionSpec, updateBoundSpec } from "./policy-specs.ts";
import { withRules } from "./rules.ts";
import { common } from "./sections.ts";
import { serverOptimizerSpec } from "./server-optimizer-spec.ts";

/* The one schema of a run. Policies are `{ name, …options }` in YAML, or a file of one's own, and values in TypeScript. */

/** The content of a YAML file, with camelCase keys. */
export const fileSchema = withRules(
  z.strictObject({
    ...common,
    strategy: z
      .strictObject({
        selection: orOwn(selectionSpec).prefault({ name: "all" }).describe("Which clients train in a round."),
        rankAssignment: orOwn(rankAssignmentSpec).describe("The rank at which each client trains."),
        aggregation: orOwn(aggregationSpec)
          .prefault({ name: "segment-wise" })
          .describe("How the clients' updates become the next global adapter."),
        serverOptimizer: serverOptimizerSpec
          .optional()
          .describe(
            "Applies the mean change as a pseudo-gradient; for aggregations that average changes. Default: the change is applied as it is.",
          ),
        updateBound: updateBoundSpec.optional().describe("Refuses unusually large updates. Default: no limit."),
      })
      .describe("The policies of the federation."),
  }),
);
export type FileConfig = z.output<typeof fileSchema>;

const isFunction = (value: unknown) => typeof value === "function";
/** `abort: false` lets the rules over several keys still run. */
const policy = <T>(isPolicy: (value: unknown) => boolean, { needed, error }: { readonly needed: string; readonly error: string }) =>
  z.custom<T>(isPolicy, { error: ({ input }) => (input === undefined ? `is needed: ${needed}` : error), abort: false });
const selection = policy<Selection>(isFunction, {
  needed: "allClients() selects every client",
  error: "must be a selection, such as randomSelection({ fraction: 0.3 }), or your own function",
});
const rankAssignment = policy<RankAssigner>(isFunction, {
  needed: "listRanks([8, 4]) gives each client its own",
  error: "must be a rank assigner, such as tieredRanks({ 8: 0.5, 2: 0.5 }), or your own function",
});
export const isAggregation = (value: unknown) => typeof value === "object" && value !== null && "begin" in value && "distribute" in value;
const aggregation = policy<Aggregation>(isAggregation, {
  needed: "segmentWise() is that of PreLort",
  error: "must be an aggregation, such as segmentWise(): an object with begin and distribute",
});

/** What `federate` takes. */
export const runSchema = withRules(
  z.strictObject({
    ...common,
    strategy: z
      .strictObject({
        selection: selection.describe("Which clients train in a round, such as randomSelection({ fraction: 0.3 }), or your own function."),
        rankAssignment: rankAssignment.describe(
          "The rank at which each client trains, such as listRanks([8, 4, 2]), or your own function.",
        ),
        aggregation: aggregation.describe(
          "How updates become the next global adapter, such as segmentWise(), or your own object with begin and distribute.",
        ),
      })
      .describe("The policies of the federation."),
  }),
);
export type RunInput = z.input<typeof runSchema>;
export type RunConfig = z.output<typeof runSchema>;
