import { ConfigError } from "../errors.ts";
import { fedExLora } from "../strategy/aggregation/fedex-lora.ts";
import { fedIt } from "../strategy/aggregation/fedit.ts";
import { fedPLoRA } from "../strategy/aggregation/fed-plora.ts";
import { fedRoRA } from "../strategy/aggregation/fedrora.ts";
import { fedSvd } from "../strategy/aggregation/fedsvd.ts";
import { ffaLora } from "../strategy/aggregation/ffa-lora.ts";
import { flexLora } from "../strategy/aggregation/flexlora.ts";
import { fLoRA } from "../strategy/aggregation/flora.ts";
import { hetLora } from "../strategy/aggregation/hetlora.ts";
import { hLora } from "../strategy/aggregation/hlora.ts";
import { productDeltas } from "../strategy/aggregation/product-deltas.ts";
import { raFLoRA } from "../strategy/aggregation/raflora.ts";
import { randomComponents } from "../strategy/aggregation/random-components.ts";
import { segmentWise } from "../strategy/aggregation/segment-wise.ts";
import { withServerOptimizer } from "../strategy/aggregation/server-optimizer.ts";
import { withUpdateBound } from "../strategy/aggregation/update-bound.ts";
import { zeroPadDeltas, zeroPadWeights } from "../strategy/aggregation/zero-pad.ts";
import { distributedRanks } from "../strategy/ranks/distributed.ts";
import { listRanks } from "../strategy/ranks/list.ts";
import { profileRanks } from "../strategy/ranks/profile.ts";
import { selfPruningRanks } from "../strategy/ranks/self-pruning.ts";
import { tieredRanks } from "../strategy/ranks/tiered.ts";
import { allClients } from "../strategy/selection/all.ts";
import { bySizeSelection } from "../strategy/selection/by-size.ts";
import { oortSelection } from "../strategy/selection/oort.ts";
import { powerOfChoiceSelection } from "../strategy/selection/power-of-choice.ts";
import { listedClients } from "../strategy/selection/listed.ts";
import { randomSelection } from "../strategy/selection/random.ts";
import { roundRobinSelection } from "../strategy/selection/round-robin.ts";
import { stratifiedSelection } from "../strategy/selection/stratified.ts";
import type { Aggregation, PolicyDescription, RankAssigner, Selection } from "../strategy/strategy.ts";
import { snakeKeys, toSnake } from "../base/case.ts";
import { ownAggregation, ownRankAssignment, ownSelection } from "./build-own-policy.ts";
import { check, formatPath } from "./check.ts";
import { CUSTOM, ownName } from "./own-policies.ts";
import { ownPolicyOf, POLICY_KEYS } from "./own-policy-spec.ts";
import { resolveTiers } from "./resolve-tiers.ts";
import { runSchema, type FileConfig, type RunConfig, type RunInput } from "./schema.ts";

/** Turns the content of a config file into what `federate` takes, building policies from their specs. */
export function buildRun(config: FileConfig): RunConfig {
  const { selection, rankAssignment, aggregation, serverOptimizer, updateBound } = config.strategy;
  const built = buildAggregation(aggregation);
  const optimised = serverOptimizer ? withServerOptimizer(built, serverOptimizer) : built;
  return {
    ...config,
    strategy: {
      selection: buildSelection(selection),
      rankAssignment: buildRankAssignment(rankAssignment),
      aggregation: updateBound ? withUpdateBound(optimised, updateBound) : optimised,
    },
  };
}

/** Validates a program's config and fills in the defaults. Throws a ConfigError with every problem. */
export function validateRun(input: RunInput): RunConfig {
  const { value, problems } = check(runSchema, input, "camelCase");
  if (problems) throw new ConfigError(problems.map(({ path, message }) => ({ path: formatPath(path, "camelCase") || "config", message })));
  return value;
}

/** The resolved config as a file would spell it, for the run's record. Policies are recorded by name and options. */
export function describeConfig(config: RunConfig): Readonly<Record<string, unknown>> {
  const { lora, strategy, ...rest } = config;
  // A file has the wrappers of an aggregation beside it.
  const { serverOptimizer, updateBound, ...aggregation } = strategy.aggregation.policy ?? { name: CUSTOM };
  return {
    ...(snakeKeys(rest) as Record<string, unknown>),
    lora: { ...lora, tiers: resolveTiers(config) },
    strategy: {
      selection: describePolicy("selection", strategy.selection),
      rank_assignment: describePolicy("rankAssignment", strategy.rankAssignment),
      aggregation: describeSpec(aggregation),
      ...(serverOptimizer !== undefined && { server_optimizer: snakeKeys(serverOptimizer) }),
      ...(updateBound !== undefined && { update_bound: snakeKeys(updateBound) }),
    },
  };
}

/** SHA-256 by file of each policy of one's own, by its key in YAML; undefined if all are built in. */
export function describePolicyFiles({
  strategy,
}: Pick<RunConfig, "strategy">): Readonly<Record<string, Readonly<Record<string, string>>>> | undefined {
  const own = POLICY_KEYS.flatMap((key) => {
    const files = ownPolicyOf(strategy[key])?.files;
    return files ? [[toSnake(key), files] as const] : [];
  });
  return own.length > 0 ? Object.fromEntries(own) : undefined;
}

function buildSelection(spec: FileConfig["strategy"]["selection"]): Selection {
  if ("module" in spec) return ownSelection(spec);
  switch (spec.name) {
    case "all":
      return allClients();
    case "list":
      return listedClients(spec.clients);
    case "random":
      return randomSelection({ fraction: spec.fraction });
    case "stratified":
      return stratifiedSelection({ fraction: spec.fraction });
    case "round-robin":
      return roundRobinSelection({ fraction: spec.fraction });
    case "by-size":
      return bySizeSelection({ fraction: spec.fraction });
    case "power-of-choice":
      return powerOfChoiceSelection({ fraction: spec.fraction, candidates: spec.candidates });
    case "oort":
      return oortSelection({ fraction: spec.fraction, preferredSpeed: spec.preferredSpeed });
  }
}

function buildRankAssignment(spec: FileConfig["strategy"]["rankAssignment"]): RankAssigner {
  if ("module" in spec) return ownRankAssignment(spec);
  switch (spec.name) {
    case "list":
      return listRanks(spec.ranks);
    case "tiered":
      return tieredRanks(spec.shares);
    case "distribution":
      return distributedRanks({ shape: spec.shape, correlated: spec.correlated });
    case "profile":
      return profileRanks({ memoryGiB: spec.memoryGiB });
    case "self-pruning":
      return selfPruningRanks({ ranks: spec.ranks, gamma: spec.gamma, penalty: spec.penalty });
  }
}

/** Without server optimizer and update bound, which wrap the result. */
export function buildAggregation(spec: FileConfig["strategy"]["aggregation"]): Aggregation {
  if ("module" in spec) return ownAggregation(spec);
  switch (spec.name) {
    case "segment-wise":
      return segmentWise({ weights: spec.weights, minContributors: spec.minContributors, robust: spec.robust });
    case "zero-pad-weights":
      return zeroPadWeights();
    case "zero-pad-deltas":
      return zeroPadDeltas({ minContributors: spec.minContributors });
    case "fedit":
      return fedIt();
    case "ffa-lora":
      return ffaLora({ minContributors: spec.minContributors });
    case "hetlora":
      return hetLora();
    case "flora":
      return fLoRA({ incrementRank: spec.incrementRank });
    case "flexlora":
      return flexLora();
    case "raflora":
      return raFLoRA();
    case "hlora":
      return hLora();
    case "fedex-lora":
      return fedExLora();
    case "fedsvd":
      return fedSvd();
    case "fed-plora":
      return fedPLoRA();
    case "fedrora":
      return fedRoRA();
    case "random-components":
      return randomComponents();
    case "product-deltas":
      return productDeltas({ momentum: spec.momentum, momentumRank: spec.momentumRank, tau: spec.tau });
  }
}

function describePolicy(key: "selection" | "rankAssignment", policy: PolicyDescription & { readonly name?: string }): unknown {
  return policy.policy ? describeSpec(policy.policy) : { name: ownName(key, policy.name) };
}

/** One's own policies are recorded by their file, as a config spells it. */
function describeSpec(policy: object): unknown {
  const own = ownPolicyOf(policy);
  if (!own) return snakeKeys(policy);
  return own.options ? { module: own.module, ...(snakeKeys(own.options) as object) } : own.module;
}
