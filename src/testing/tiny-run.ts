import type { FederateOptions } from "../server/federate.ts";
import { segmentWise } from "../strategy/aggregation/segment-wise.ts";
import { tieredRanks } from "../strategy/ranks/tiered.ts";
import { allClients } from "../strategy/selection/all.ts";
import { tinyLauncher } from "./launcher.ts";

/** Options of `federate`; the strategy may be partial. */
export interface TinyRunOptions extends Partial<Omit<FederateOptions, "strategy">> {
  /** A temporary folder. */
  readonly runsDir: string;
  readonly strategy?: Partial<FederateOptions["strategy"]>;
}

/**
 * A whole run for a unit test: `federate(tinyRun({ runsDir, strategy: { aggregation } }))`. By default three rounds of
 * eight clients at ranks 8, 4, 2 and 1, on a tiny model that two workers in this process train.
 */
export function tinyRun({ strategy, ...options }: TinyRunOptions): FederateOptions {
  const rankAssignment = tieredRanks({ 8: 0.25, 4: 0.25, 2: 0.25, 1: 0.25 });
  return {
    rounds: 3,
    model: { nameOrPath: "prelort/testing", task: "testing:Softmax" },
    lora: { r: 8, tiers: [1, 2, 4, 8] },
    data: { path: "prelort/testing", label: "label", evalExamples: 64, clients: 8 },
    fit: { localSteps: 8, batchSize: 8, lr: 0.05 },
    workers: { count: 2, devices: ["cpu"] },
    launcher: tinyLauncher(),
    ...options,
    strategy: { selection: allClients(), rankAssignment, aggregation: segmentWise(), ...strategy },
  };
}
