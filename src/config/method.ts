import { ownPolicyOf } from "./own-policy-spec.ts";
import type { RunConfig } from "./schema.ts";

/** How a record describes the method, so that nobody mistakes our reading of a paper for the paper. */
export interface MethodRecord {
  readonly name: string;
  readonly note: string;
}

const READING =
  "Our reading of PreLort (arXiv 2606.15963), of which only the abstract was available: one scale at every rank; " +
  "each segment averaged over the clients that train it, weighted by their examples; a segment nobody trained keeps its value; " +
  "every truncation trained on each batch, all with the same weight.";

/** Why the same config, seed and data may give different bytes on the same kind of device with the same versions; none by default. */
export function describeDoubts({
  closing,
  model,
  workers,
  strategy,
}: Pick<RunConfig, "closing" | "model" | "workers" | "strategy">): readonly string[] {
  const kinds = new Set(workers.devices === "auto" ? [] : workers.devices.map((device) => device.replace(/:.*/, "")));
  const { selection, rankAssignment, aggregation } = strategy;
  const own = Object.entries({ selection, rank_assignment: rankAssignment, aggregation }).filter(
    ([, policy]) => !policy.policy || ownPolicyOf(policy),
  );
  return [
    ...(closing.enough !== undefined || closing.deadline !== undefined
      ? ["closing: the clock decides which clients count; the journal records which did"]
      : []),
    ...(kinds.size > 1 ? [`workers.devices: of several kinds (${[...kinds].join(", ")}), which round differently`] : []),
    ...(model.task.includes(":") ? ["model.task: your own code, which may use randomness not seeded by torch"] : []),
    ...(model.trustRemoteCode ? ["model.trust_remote_code: code of the model's repository, which may depend on anything"] : []),
    ...own.map(([name]) => `strategy.${name}: your own code, which may depend on anything`),
  ];
}

/** The name `prelort` is reserved for our reading of the paper; any other method is named by its parts. */
export function describeMethod({ fit, strategy }: Pick<RunConfig, "fit" | "strategy">): MethodRecord {
  const { name, weights, ...wrapped } = strategy.aggregation.policy ?? { name: "custom aggregation" };
  const weight = fit.objective === "none" ? "" : `, full weight ${fit.fullWeight ?? "uniform"}`;
  const tail = fit.actingTail > 0 ? [`the tail acting in ${fit.actingTail} of the steps`] : [];
  const kept = fit.clientState === "keep" ? ["optimizers that clients keep between fits"] : [];
  const additions = [...describeAdditions(wrapped), ...tail, ...kept];
  const isNested = fit.objective === "sum" && fit.fullWeight === null;
  const isReading = name === "segment-wise" && weights === "examples" && additions.length === 0 && !strategy.rankAssignment.fitOptions;
  if (isReading && isNested) {
    return { name: "prelort", note: READING };
  }
  const called = `${[name, ...additions].join(", ")} + ${fit.objective}${weight}`;
  const ours = [...additions, ...(isNested ? [] : [`the objective ${fit.objective}${weight}`])].join(", ");
  return {
    name: called,
    note:
      name === "segment-wise"
        ? `${READING} Ours, not the paper's: ${ours}.`
        : `Not PreLort itself, whose aggregation is segment-wise: this run used ${name}, with one scale at every rank.`,
  };
}

/** The options of an aggregation's policy that its name does not imply. */
function describeAdditions(options: Readonly<Record<string, unknown>>): readonly string[] {
  const { incrementRank, minContributors, robust, serverOptimizer, updateBound } = options as {
    readonly incrementRank?: number;
    readonly minContributors?: number;
    readonly robust?: { readonly name: string };
    readonly serverOptimizer?: { readonly name: string };
    readonly updateBound?: { readonly factor: number };
  };
  return [
    ...(incrementRank === undefined ? [] : [`increments of rank ${incrementRank}`]),
    ...(robust ? [robust.name] : []),
    ...(minContributors === undefined ? [] : [`${minContributors} contributors or none`]),
    ...(serverOptimizer ? [`server ${serverOptimizer.name}`] : []),
    ...(updateBound ? [`update bound ${updateBound.factor}`] : []),
  ];
}
