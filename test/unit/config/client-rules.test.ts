import { describe, expect, it } from "vitest";
import { validateRun } from "../../../src/config/build.ts";
import { requireClients } from "../../../src/config/client-rules.ts";
import type { RunInput } from "../../../src/config/schema.ts";
import { ConfigError } from "../../../src/errors.ts";
import { toDataSpec } from "../../../src/config/wire-specs.ts";
import { segmentWise } from "../../../src/strategy/aggregation/segment-wise.ts";
import { listRanks } from "../../../src/strategy/ranks/list.ts";
import { tieredRanks } from "../../../src/strategy/ranks/tiered.ts";
import { allClients } from "../../../src/strategy/selection/all.ts";
import { powerOfChoiceSelection } from "../../../src/strategy/selection/power-of-choice.ts";

type Data = Partial<RunInput["data"]>;
type Strategy = Partial<RunInput["strategy"]>;

const configOf = (data: Data, strategy: Strategy = {}): RunInput => ({
  rounds: 1,
  model: { nameOrPath: "prelort:tiny", task: "causal-lm" },
  lora: { r: 8, target_modules: ["q_proj"] },
  data: { path: "words", prompt: "", answer: "{gloss}", ...data },
  strategy: { selection: allClients(), rankAssignment: tieredRanks({ 8: 1 }), aggregation: segmentWise(), ...strategy },
});

function issuesOf(action: () => unknown): readonly string[] {
  try {
    action();
  } catch (error) {
    if (error instanceof ConfigError) return error.issues.map(({ path, message }) => `${path}: ${message}`);
    throw error;
  }
  return [];
}

const refused = (data: Data, strategy?: Strategy) => issuesOf(() => validateRun(configOf(data, strategy)));

describe("the number of clients", () => {
  it("is needed unless the partition tells it", () => {
    for (const partition of [
      undefined,
      { name: "dirichlet", by: "topic", alpha: 1 },
      { name: "size", alpha: 1 },
      { name: "pathological", by: "topic", perClient: 2 },
    ] as const) {
      const issue = `data.clients: is needed: a number, which the partition ${partition?.name ?? "iid"} does not tell`;
      expect(refused({ partition })).toEqual([issue]);
      expect(refused({ partition, clients: 3 })).toEqual([]);
    }
    for (const partition of [{ name: "value", by: "topic" }, { name: "files" }, { name: "size", shares: [1, 2] }] as const) {
      expect(refused({ partition })).toEqual([]);
    }
    expect(refused({ partition: { name: "files" }, clients: 0 })).toEqual(["data.clients: must be at least 1, got 0"]);
  });

  it("is that of the shares, and what depends on it is checked before anything starts", () => {
    const partition = { name: "size", shares: [1, 2, 1] } as const;
    expect(refused({ partition, profiles: [{ speed: 1 }], maxExamples: 29 }, { rankAssignment: listRanks([8, 4]) })).toEqual([
      "data.maxExamples: must be at least 30 (3 clients of at least 10 each), got 29",
      "strategy.rankAssignment.ranks: must hold one rank for each of the 3 data.clients, got 2",
      "data.profiles: must hold one profile for each of the 3 data.clients, got 1",
    ]);
    expect(refused({ partition, clients: 4 })).toEqual([
      "data.partition.shares: must hold one share for each of the 4 data.clients, got 3",
    ]);
  });

  it("is held to the same rules once the data has told it", () => {
    const partition = { name: "files" } as const;
    const strategy = {
      rankAssignment: listRanks([8, 4]),
      aggregation: segmentWise({ minContributors: 4 }),
      selection: powerOfChoiceSelection({ fraction: 1, candidates: 5 }),
    };
    const config = validateRun(configOf({ partition, profiles: [{ speed: 1 }], maxExamples: 2 }, strategy));
    expect(issuesOf(() => requireClients(config, 3))).toEqual([
      "strategy.aggregation.minContributors: must be at most 3, the clients of a round, got 4",
      "data.maxExamples: must be at least 3 (3 clients of at least 1 each), got 2",
      "strategy.rankAssignment.ranks: must hold one rank for each of the 3 data.clients, got 2",
      "data.profiles: must hold one profile for each of the 3 data.clients, got 1",
      "strategy.selection.candidates: must be from 3, the clients that train in a round, to 3, all clients, got 5",
    ]);
    const fitting = validateRun(configOf({ partition, profiles: [{ speed: 1 }, {}] }, { rankAssignment: listRanks([8, 4]) }));
    requireClients(fitting, 2);
  });

  it("does not hide what else is wrong", () => {
    const partition = { name: "size", shares: [1, -1] } as const;
    expect(refused({ partition }, { rankAssignment: listRanks([16, 8]) })).toEqual([
      "data.partition.shares[1]: must be more than 0, got -1",
      "strategy.rankAssignment.ranks[0]: rank 16 is larger than lora.r (8)",
    ]);
    expect(refused({ partition: "files" as unknown as { name: "files" } })).toHaveLength(1);
  });
});

describe("partitions", () => {
  it("of sizes have either alpha or shares", () => {
    const issue = "data.partition: must have alpha, to draw the sizes from, or shares, which are the sizes: one of the two";
    expect(refused({ clients: 2, partition: { name: "size" } })).toEqual([issue]);
    expect(refused({ clients: 2, partition: { name: "size", alpha: 1, shares: [1, 1] } })).toEqual([issue]);
  });

  it("of sizes and of values per client have minima of their own", () => {
    expect(refused({ clients: 2, partition: { name: "size", alpha: 1, minExamples: 4 }, clientEvalExamples: 4 })).toEqual([
      "data.partition.minExamples: must be larger than the 4 examples that each client holds out, got 4",
    ]);
    expect(refused({ clients: 5, partition: { name: "pathological", by: "topic", perClient: 3 }, maxExamples: 14 })).toEqual([
      "data.maxExamples: must be at least 15 (5 clients of at least 3 each), got 14",
    ]);
  });

  it.each([
    [{ name: "iid" }, { clients: 2, by: null, alpha: null, min_examples: 1, shares: null, per_client: null }],
    [
      { name: "dirichlet", by: "topic", alpha: 0.5 },
      { clients: 2, by: "topic", alpha: 0.5, min_examples: 10, shares: null, per_client: null },
    ],
    [
      { name: "size", alpha: 0.5, minExamples: 3 },
      { clients: 2, by: null, alpha: 0.5, min_examples: 3, shares: null, per_client: null },
    ],
    [
      { name: "size", shares: [1, 2] },
      { clients: undefined, by: null, alpha: null, min_examples: 10, shares: [1, 2], per_client: null },
    ],
    [
      { name: "pathological", by: "topic", perClient: 2 },
      { clients: 2, by: "topic", alpha: null, min_examples: 1, shares: null, per_client: 2 },
    ],
    [
      { name: "value", by: "topic" },
      { clients: undefined, by: "topic", alpha: null, min_examples: 1, shares: null, per_client: null },
    ],
    [{ name: "files" }, { clients: undefined, by: "file", alpha: null, min_examples: 1, shares: null, per_client: null }],
  ] as const)("travel: %j", (partition, { clients, ...expected }) => {
    const spec = toDataSpec(validateRun(configOf({ clients, partition })));
    expect(spec.partition).toEqual({ name: partition.name, ...expected });
    expect(spec.clients).toBe(clients ?? (partition.name === "size" ? 2 : null));
  });
});
