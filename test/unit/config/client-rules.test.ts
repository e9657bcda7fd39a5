import { describe, expect, it } from "vitest";
import { validateRun } from "../../../src/config/build.ts";
import { requireClients } from "../../../src/config/client-rules.ts";
import type { RunInput } from "../../../src/config/schema.ts";
import { toDataSpec } from "../../../src/config/wire-specs.ts";
import { segmentWise } from "../../../src/strategy/aggregation/segment-wise.ts";
import { listRanks } from "../../../src/strategy/ranks/list.ts";
import { tieredRanks } from "../../../src/strategy/ranks/tiered.ts";
import { allClients } from "../../../src/strategy/selection/all.ts";
import { powerOfChoiceSelection } from "../../../src/strategy/selection/power-of-choice.ts";
import { issue, issuesOf } from "../../support/config-issues.ts";

type Data = Partial<RunInput["data"]>;
type Strategy = Partial<RunInput["strategy"]>;

const configOf = (data: Data, strategy: Strategy = {}): RunInput => ({
  rounds: 1,
  model: { nameOrPath: "prelort:tiny", task: "causal-lm" },
  lora: { r: 8, target_modules: ["q_proj"] },
  data: { path: "words", prompt: "", answer: "{gloss}", ...data },
  strategy: { selection: allClients(), rankAssignment: tieredRanks({ 8: 1 }), aggregation: segmentWise(), ...strategy },
});

const refused = (data: Data, strategy?: Strategy) => issuesOf(() => validateRun(configOf(data, strategy)));
const accept = (data: Data) => validateRun(configOf(data));

describe("the number of clients", () => {
  it("is needed unless the partition determines it", async () => {
    for (const partition of [
      undefined,
      { name: "dirichlet", by: "topic", alpha: 1 },
      { name: "size", alpha: 1 },
      { name: "pathological", by: "topic", perClient: 2 },
    ] as const) {
      expect(await refused({ partition })).toEqual([issue("data.clients", [partition?.name ?? "iid"])]);
      accept({ partition, clients: 3 });
    }
    for (const partition of [{ name: "value", by: "topic" }, { name: "files" }, { name: "size", shares: [1, 2] }] as const) {
      accept({ partition });
    }
    expect(await refused({ partition: { name: "files" }, clients: 0 })).toEqual([issue("data.clients", [1, 0])]);
  });

  it("is the number of shares, and rules that depend on it are checked before anything starts", async () => {
    const partition = { name: "size", shares: [1, 2, 1] } as const;
    expect(await refused({ partition, profiles: [{ speed: 1 }], maxExamples: 29 }, { rankAssignment: listRanks([8, 4]) })).toEqual([
      issue("data.maxExamples", [30, 3, 10, 29]),
      issue("strategy.rankAssignment.ranks", [3, "data.clients", 2]),
      issue("data.profiles", [3, "data.clients", 1]),
    ]);
    expect(await refused({ partition, clients: 4 })).toEqual([issue("data.partition.shares", [4, "data.clients", 3])]);
  });

  it("is subject to the same rules when the data determines it", async () => {
    const partition = { name: "files" } as const;
    const strategy = {
      rankAssignment: listRanks([8, 4]),
      aggregation: segmentWise({ minContributors: 4 }),
      selection: powerOfChoiceSelection({ fraction: 1, candidates: 5 }),
    };
    const config = validateRun(configOf({ partition, profiles: [{ speed: 1 }], maxExamples: 2 }, strategy));
    expect(await issuesOf(() => requireClients(config, 3))).toEqual([
      issue("strategy.aggregation.minContributors", [3, 4]),
      issue("data.maxExamples", [3, 3, 1, 2]),
      issue("strategy.rankAssignment.ranks", [3, "data.clients", 2]),
      issue("data.profiles", [3, "data.clients", 1]),
      issue("strategy.selection.candidates", [3, 3, 5]),
    ]);
    const fitting = validateRun(configOf({ partition, profiles: [{ speed: 1 }, {}] }, { rankAssignment: listRanks([8, 4]) }));
    requireClients(fitting, 2);
  });

  it("does not hide other issues when its partition is invalid", async () => {
    const partition = { name: "size", shares: [1, -1] } as const;
    expect(await refused({ partition }, { rankAssignment: listRanks([16, 8]) })).toEqual([
      issue("data.partition.shares[1]", [0, -1]),
      issue("strategy.rankAssignment.ranks[0]", [16, "lora.r", 8]),
    ]);
    expect(await refused({ partition: "files" as unknown as { name: "files" } })).toHaveLength(1);
  });
});

describe("partitions", () => {
  it("by size have either alpha or shares", async () => {
    const expected = [issue("data.partition", ["alpha", "shares"])];
    expect(await refused({ clients: 2, partition: { name: "size" } })).toEqual(expected);
    expect(await refused({ clients: 2, partition: { name: "size", alpha: 1, shares: [1, 1] } })).toEqual(expected);
  });

  it("by size and pathological ones have their own minimum of examples", async () => {
    expect(await refused({ clients: 2, partition: { name: "size", alpha: 1, minExamples: 4 }, clientEvalExamples: 4 })).toEqual([
      issue("data.partition.minExamples", [4, 4]),
    ]);
    expect(await refused({ clients: 5, partition: { name: "pathological", by: "topic", perClient: 3 }, maxExamples: 14 })).toEqual([
      issue("data.maxExamples", [15, 5, 3, 14]),
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
  ] as const)("are sent to workers as they are: %j", (partition, { clients, ...expected }) => {
    const spec = toDataSpec(validateRun(configOf({ clients, partition })));
    expect(spec.partition).toEqual({ name: partition.name, ...expected });
    expect(spec.clients).toBe(clients ?? (partition.name === "size" ? 2 : null));
  });
});
