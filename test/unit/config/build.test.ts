import { describe, expect, it } from "vitest";
import { buildRun, describeConfig, validateRun } from "../../../src/config/build.ts";
import { resolveTiers } from "../../../src/config/resolve-tiers.ts";
import { camelKeys } from "../../../src/base/case.ts";
import { fileSchema, type RunInput } from "../../../src/config/schema.ts";
import { ffaLora } from "../../../src/strategy/aggregation/ffa-lora.ts";
import { segmentWise } from "../../../src/strategy/aggregation/segment-wise.ts";
import { withServerOptimizer } from "../../../src/strategy/aggregation/server-optimizer.ts";
import { withUpdateBound } from "../../../src/strategy/aggregation/update-bound.ts";
import { zeroPadDeltas } from "../../../src/strategy/aggregation/zero-pad.ts";
import { distributedRanks } from "../../../src/strategy/ranks/distributed.ts";
import { listRanks } from "../../../src/strategy/ranks/list.ts";
import { profileRanks } from "../../../src/strategy/ranks/profile.ts";
import { selfPruningRanks } from "../../../src/strategy/ranks/self-pruning.ts";
import { tieredRanks } from "../../../src/strategy/ranks/tiered.ts";
import { allClients } from "../../../src/strategy/selection/all.ts";
import { bySizeSelection } from "../../../src/strategy/selection/by-size.ts";
import { oortSelection } from "../../../src/strategy/selection/oort.ts";
import { powerOfChoiceSelection } from "../../../src/strategy/selection/power-of-choice.ts";
import { randomSelection } from "../../../src/strategy/selection/random.ts";
import { roundRobinSelection } from "../../../src/strategy/selection/round-robin.ts";
import { stratifiedSelection } from "../../../src/strategy/selection/stratified.ts";
import type { RankAssigner, Selection } from "../../../src/strategy/strategy.ts";
import { issue, issuesOf } from "../../support/config-issues.ts";

const input = {
  rounds: 2,
  model: { nameOrPath: "prelort:tiny", task: "causal-lm" },
  lora: { r: 6, target_modules: ["q_proj"] },
  data: { path: "words.jsonl", prompt: "", answer: "{gloss}", clients: 2 },
  strategy: { selection: allClients(), rankAssignment: listRanks([6, 2]), aggregation: segmentWise() },
} satisfies RunInput;
const byParity: RankAssigner = (client) => (client.index % 2 === 0 ? 4 : 1);

const refused = (config: unknown) => issuesOf(() => validateRun(config as RunInput));

describe("validateRun", () => {
  it("fills in defaults, keeps policies as they are, and accepts its own result", () => {
    const config = validateRun(input);
    expect(config.fit.lr).toBe(3e-4);
    expect(config.strategy).toEqual(input.strategy);
    expect(validateRun(config)).toEqual(config);
  });

  it("reports all issues together in the API's spelling, and applies the rules of files to policies", async () => {
    const strategy = { ...input.strategy, rankAssignment: listRanks([8, 2, 1]), selection: "all" };
    expect(await refused({ ...input, strategy, seed: -1, fit: { localStep: 1 } })).toEqual([
      issue("seed", [0, -1]),
      issue("fit.localStep", ["localSteps"]),
      issue("strategy.selection", ["randomSelection"]),
      issue("strategy.rankAssignment.ranks[0]", [8, "lora.r", 6]),
      issue("strategy.rankAssignment.ranks", [2, "data.clients", 3]),
    ]);
  });

  it("proposes a policy for each that is missing", async () => {
    expect(await refused({ ...input, strategy: {} })).toEqual([
      issue("strategy.selection", ["allClients"]),
      issue("strategy.rankAssignment", ["listRanks"]),
      issue("strategy.aggregation", ["segmentWise"]),
    ]);
  });

  it("refuses a value that is not a config", async () => {
    expect(await refused(undefined)).toEqual([issue("config", ["map"])]);
  });
});

describe("buildRun", () => {
  it("builds the same policies as a program would", () => {
    const { strategy: _, ...rest } = input;
    const specs = {
      selection: { name: "random", fraction: 0.5 },
      rankAssignment: { name: "tiered", shares: { 6: 0.5, 2: 0.5 } },
      aggregation: { name: "segment-wise", weights: "uniform" },
    };
    const { strategy } = buildRun(fileSchema.parse({ ...rest, strategy: specs }));
    expect(strategy.selection.policy).toEqual(randomSelection({ fraction: 0.5 }).policy);
    expect(strategy.rankAssignment.policy).toEqual(tieredRanks({ 6: 0.5, 2: 0.5 }).policy);
    expect(strategy.aggregation.policy).toEqual(segmentWise({ weights: "uniform" }).policy);
  });

  const built = (specs: { selection?: object; rankAssignment?: object }) => {
    const { strategy: _, ...rest } = input;
    const data = {
      ...input.data,
      profiles: [
        { memoryGiB: 8, speed: 1 },
        { memoryGiB: 2, speed: 4 },
      ],
    };
    const strategy = { rankAssignment: { name: "list", ranks: [6, 2] }, ...specs };
    const config = buildRun(fileSchema.parse({ ...rest, data, strategy }));
    // The same rules apply to a program's config.
    expect(validateRun(config).strategy).toEqual(config.strategy);
    return config;
  };

  it.each<[spec: object, made: Selection]>([
    [{ name: "round-robin", fraction: 0.5 }, roundRobinSelection({ fraction: 0.5 })],
    [{ name: "stratified", fraction: 0.5 }, stratifiedSelection({ fraction: 0.5 })],
    [{ name: "by-size", fraction: 0.5 }, bySizeSelection({ fraction: 0.5 })],
    [{ name: "power-of-choice", fraction: 0.5, candidates: 2 }, powerOfChoiceSelection({ fraction: 0.5, candidates: 2 })],
    [{ name: "oort", fraction: 0.5 }, oortSelection({ fraction: 0.5 })],
    [{ name: "oort", fraction: 0.5, preferredSpeed: 2 }, oortSelection({ fraction: 0.5, preferredSpeed: 2 })],
  ])("selects by %j", (spec, made) => {
    const { policy } = built({ selection: spec }).strategy.selection;
    expect(policy).toEqual(made.policy);
    expect(policy).toEqual(spec);
  });

  it.each<[spec: object, made: RankAssigner]>([
    [{ name: "distribution", shape: "normal", correlated: true }, distributedRanks({ shape: "normal", correlated: true })],
    [{ name: "profile", memoryGiB: { 6: 8, 2: 1 } }, profileRanks({ memoryGiB: { 6: 8, 2: 1 } })],
    [{ name: "self-pruning", ranks: [6, 2], gamma: 0.9, penalty: 0.1 }, selfPruningRanks({ ranks: [6, 2], gamma: 0.9, penalty: 0.1 })],
  ])("assigns ranks by %j", (spec, made) => {
    const { policy, fitOptions } = built({ rankAssignment: spec }).strategy.rankAssignment;
    expect(policy).toEqual(made.policy);
    expect(policy).toEqual(spec);
    expect(fitOptions).toEqual(made.fitOptions);
  });
});

describe("aggregations", () => {
  const specs = {
    serverOptimizer: { name: "momentum", lr: 1, momentum: 0.5 },
    updateBound: { factor: 4 },
    aggregation: { name: "segment-wise", weights: "uniform", minContributors: 2, robust: { name: "clip", norm: 0.5 } },
  } as const;
  const build = (strategy: object) => {
    const { strategy: _, ...rest } = input;
    return buildRun(fileSchema.parse({ ...rest, strategy: { rankAssignment: { name: "list", ranks: [6, 2] }, ...strategy } }));
  };

  it("are wrapped by the server optimizer and then by the update bound, which sees updates first", () => {
    const { aggregation } = build(specs).strategy;
    const { serverOptimizer, updateBound } = specs;
    expect(aggregation.policy).toEqual({ ...specs.aggregation, serverOptimizer, updateBound });
  });

  it("are recorded as in a file, and the record builds the same aggregation", () => {
    const run = build(specs);
    const { strategy } = describeConfig(run) as { readonly strategy: object };
    expect(strategy).toMatchObject({
      aggregation: { name: "segment-wise", weights: "uniform", min_contributors: 2, robust: { name: "clip", norm: 0.5 } },
      server_optimizer: { name: "momentum", lr: 1, momentum: 0.5 },
      update_bound: { factor: 4 },
    });
    expect(build(camelKeys(strategy) as object).strategy.aggregation.policy).toEqual(run.strategy.aggregation.policy);
  });

  it.each([
    [{ name: "zero-pad-deltas", minContributors: 2 }, zeroPadDeltas({ minContributors: 2 })],
    [{ name: "ffa-lora", minContributors: 2 }, ffaLora({ minContributors: 2 })],
  ])("are made with the options of %j", (spec, made) => {
    expect(build({ aggregation: spec }).strategy.aggregation.policy).toEqual(made.policy);
  });

  it("are subject to the rules of files where a program makes them, wrapped or not", async () => {
    const robust = segmentWise({ robust: { name: "multi-krum", malicious: 3 }, minContributors: 3 });
    for (const aggregation of [robust, withUpdateBound(withServerOptimizer(robust, { name: "adam" }))]) {
      expect(await refused({ ...input, strategy: { ...input.strategy, aggregation } })).toEqual([
        issue("strategy.aggregation.minContributors", [2, 3]),
        issue("strategy.aggregation.robust", ["multi-krum", "malicious", 3, 9, 2]),
      ]);
    }
  });
});

describe("resolveTiers", () => {
  const data = { ...input.data, profiles: [{ memoryGiB: 8 }, { memoryGiB: 2 }] };
  const tiersOf = (lora: object, rankAssignment: RankAssigner) =>
    resolveTiers(validateRun({ ...input, data, lora: { ...input.lora, ...lora }, strategy: { ...input.strategy, rankAssignment } }));

  it("returns lora.tiers as they are", () => expect(tiersOf({ tiers: [2, 6] }, byParity)).toEqual([2, 6]));
  it("without lora.tiers, returns the ranks of a list, and R", () => expect(tiersOf({ r: 16 }, listRanks([4, 2]))).toEqual([2, 4, 16]));
  it("without lora.tiers, returns the ranks that have shares, and R", () =>
    expect(tiersOf({ r: 16 }, tieredRanks({ 8: 0.5, 2: 0.5 }))).toEqual([2, 8, 16]));
  it("without lora.tiers, returns the ranks that memory is declared for, and R", () =>
    expect(tiersOf({ r: 16 }, profileRanks({ memoryGiB: { 8: 0, 4: 0 } }))).toEqual([4, 8, 16]));
  it("without lora.tiers, returns the listed ranks of self-pruning, and R", () =>
    expect(tiersOf({ r: 16 }, selfPruningRanks({ ranks: [8, 2], penalty: 0 }))).toEqual([2, 8, 16]));
  it("if nothing names ranks, returns the powers of two up to R, and R", () => {
    expect(tiersOf({ r: 6 }, byParity)).toEqual([1, 2, 4, 6]);
    expect(tiersOf({ r: 6 }, distributedRanks({ shape: "uniform" }))).toEqual([1, 2, 4, 6]);
  });
});

describe("describeConfig", () => {
  it("returns plain JSON in snake_case, with policies by name and options and with resolved tiers", () => {
    const described = describeConfig(validateRun({ ...input, strategy: { ...input.strategy, rankAssignment: byParity } }));
    expect(described).toMatchObject({
      model: { name_or_path: "prelort:tiny" },
      lora: { r: 6, tiers: [1, 2, 4, 6], target_modules: ["q_proj"] },
      fit: { full_weight: 0.9, local_steps: 10 },
      strategy: { selection: { name: "all" }, rank_assignment: { name: "byParity" }, aggregation: { name: "segment-wise" } },
    });
  });

  it("does not record a script's function under the name of a built-in policy", () => {
    const all: Selection = ({ clients }) => [clients[0]!.id];
    const strategy = { ...input.strategy, selection: all };
    expect(describeConfig(validateRun({ ...input, strategy }))).toMatchObject({ strategy: { selection: { name: "custom" } } });
  });

  it("spells GiB as in files", () => {
    const data = { ...input.data, profiles: [{ memoryGiB: 8 }, { memoryGiB: 2 }] };
    const strategy = { ...input.strategy, rankAssignment: profileRanks({ memoryGiB: { 6: 1 } }) };
    expect(describeConfig(validateRun({ ...input, data, strategy }))).toMatchObject({
      data: { profiles: [{ memory_gib: 8 }, { memory_gib: 2 }] },
      strategy: { rank_assignment: { name: "profile", memory_gib: { 6: 1 } } },
    });
  });
});
