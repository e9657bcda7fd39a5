/** prelort: federated LoRA fine-tuning over devices that are not equal. This list is the whole public API. */
export { type FederateOptions, federate, type Run } from "./server/federate.ts";
export { type Plan, type PlannedClient, plan } from "./server/plan.ts";
export type { RunResult } from "./server/result.ts";
export type { RoundMetrics, RunEvent, TierMetrics } from "./server/events.ts";

export { loadConfig } from "./config/load.ts";
export { buildRun } from "./config/build.ts";
export type { FileConfig, RunConfig, RunInput } from "./config/schema.ts";

export { allClients } from "./strategy/selection/all.ts";
export { randomSelection } from "./strategy/selection/random.ts";
export { stratifiedSelection } from "./strategy/selection/stratified.ts";
export { listRanks } from "./strategy/ranks/list.ts";
export { tieredRanks } from "./strategy/ranks/tiered.ts";
export { segmentWise, type SegmentWiseOptions } from "./strategy/aggregation/segment-wise.ts";
export type {
  Accumulator,
  Aggregate,
  Aggregation,
  Client,
  PolicyContext,
  PolicyDescription,
  RankAssigner,
  RankedClient,
  RoundContext,
  Selection,
  SelectionContext,
  Strategy,
  Update,
} from "./strategy/strategy.ts";
export type { Rng } from "./tensor/rng.ts";
export { type Adapter, prefix } from "./adapter/adapter.ts";
export type { AdapterLayout, AdapterModule, DenseParameter } from "./adapter/layout.ts";

export { type LaunchOptions, processLauncher, type WorkerExit, type WorkerLauncher, type WorkerProcess } from "./workers/launch.ts";
export type { WorkerHello, WorkerStatus } from "./workers/task.ts";
export { writeReport } from "./report/html.ts";
export {
  ConfigError,
  type ConfigIssue,
  EnvironmentError,
  type ErrorKind,
  InterruptedError,
  PrelortError,
  RefusedError,
  RunFailedError,
  WorkerError,
  type WorkerErrorDetails,
} from "./errors.ts";
