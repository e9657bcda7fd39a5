/** prelort: federated LoRA fine-tuning over devices that are not equal. This list is the whole public API. */
export { type FederateOptions, federate, type Run } from "./server/federate.ts";
export { createPool, type CreatePoolOptions, type SharedPool } from "./server/shared-pool.ts";
export { type LoadAdapterOptions, type LoadedRun, loadRun } from "./server/loaded-run.ts";
export type { RunState } from "./records/run-state.ts";
export { type AdapterEvaluation, evaluateAdapter, type EvaluateOptions } from "./server/evaluate-adapter.ts";
export { generate, type GenerateOptions } from "./server/generate.ts";
export { type ConfigModel, type ModelOptions, openGenerator, type RunModel, type TextGenerator } from "./server/open-generator.ts";
export type { Answer, AnswerPiece, Answers, RankAnswer } from "./server/answer.ts";
export type { ChatMessage, Question } from "./server/question.ts";
export { type VerifiedRound, type VerifyOptions, verifyRun } from "./server/verify.ts";
export type { MeasuredTier, Measurement, Prediction, Slots } from "./planning/measure.ts";
export { type Plan, type PlannedClient, type PlanOptions, plan } from "./planning/plan.ts";
export { type ExportOptions, exportRun } from "./artifacts/export-run.ts";
export type { RunResult } from "./server/result.ts";
export type { Made, Saved, SaveOptions } from "./artifacts/save-trained.ts";
export { cardFiles, type CardOptions } from "./report/model-card.ts";
export type { StoredDtype } from "./artifacts/peft-folder.ts";
export {
  type AdapterReadyEvent,
  type ClientFailureEvent,
  type ClientFitEvent,
  type ClientSetAsideEvent,
  type DataReadyEvent,
  type EarlyStopEvent,
  type EvaluationStartEvent,
  type FolderCopiedEvent,
  type PhaseStartEvent,
  type RoundEndEvent,
  type RoundStartEvent,
  type RunEndEvent,
  type RunEvent,
  type RunFailedEvent,
  type RunStartEvent,
  type WorkerGivenUpEvent,
  type WorkerReadyEvent,
  type WorkerStatusEvent,
  EVENT_VERSION,
} from "./server/events.ts";
export type { BestRound, EarlyStop } from "./records/best-round.ts";
export { type RoundMetrics, type TierMetrics } from "./records/metrics.ts";

export { compare, type CompareOptions, type ComparisonResult } from "./compare/compare.ts";
export type { LearningRate } from "./compare/learning-rate-search.ts";
export type { Progress } from "./compare/runs.ts";
export type { Budget, Outcome, Summary } from "./compare/outcome.ts";
export { writeComparison } from "./compare/write.ts";
export { tune, type TunedValue, type TuneOptions, type TuneResult } from "./compare/tune.ts";
export { writeTune } from "./compare/write-tune.ts";
export { type Comparison, type ComparisonMethod, loadComparison } from "./config/comparison.ts";
export { loadConfig } from "./config/load.ts";
export { buildRun } from "./config/build.ts";
export type { FileConfig, RunConfig, RunInput } from "./config/schema.ts";

export { allClients } from "./strategy/selection/all.ts";
export { bySizeSelection, type BySizeSelectionOptions } from "./strategy/selection/by-size.ts";
export { oortSelection, type OortSelectionOptions } from "./strategy/selection/oort.ts";
export { powerOfChoiceSelection, type PowerOfChoiceSelectionOptions } from "./strategy/selection/power-of-choice.ts";
export { listedClients } from "./strategy/selection/listed.ts";
export { randomSelection } from "./strategy/selection/random.ts";
export { roundRobinSelection, type RoundRobinSelectionOptions } from "./strategy/selection/round-robin.ts";
export { stratifiedSelection } from "./strategy/selection/stratified.ts";
export { distributedRanks, type DistributedRanksOptions, type RankDistribution } from "./strategy/ranks/distributed.ts";
export { listRanks } from "./strategy/ranks/list.ts";
export { profileRanks, type ProfileRanksOptions } from "./strategy/ranks/profile.ts";
export { selfPruningRanks, type SelfPruningRanksOptions } from "./strategy/ranks/self-pruning.ts";
export { tieredRanks } from "./strategy/ranks/tiered.ts";
export { type RobustOptions, segmentWise, type SegmentWiseOptions } from "./strategy/aggregation/segment-wise.ts";
export { withServerOptimizer, type ServerOptimizerOptions } from "./strategy/aggregation/server-optimizer.ts";
export type { ContributorOptions } from "./strategy/aggregation/segment-means.ts";
export { withUpdateBound, type UpdateBoundOptions } from "./strategy/aggregation/update-bound.ts";
export { zeroPadDeltas, zeroPadWeights } from "./strategy/aggregation/zero-pad.ts";
export { fedExLora } from "./strategy/aggregation/fedex-lora.ts";
export { fedIt } from "./strategy/aggregation/fedit.ts";
export { fedPLoRA } from "./strategy/aggregation/fed-plora.ts";
export { fedRoRA } from "./strategy/aggregation/fedrora.ts";
export { fedSvd } from "./strategy/aggregation/fedsvd.ts";
export { ffaLora } from "./strategy/aggregation/ffa-lora.ts";
export { flexLora } from "./strategy/aggregation/flexlora.ts";
export { fLoRA, type FLoRAOptions } from "./strategy/aggregation/flora.ts";
export { hetLora } from "./strategy/aggregation/hetlora.ts";
export { hLora } from "./strategy/aggregation/hlora.ts";
export { randomComponents } from "./strategy/aggregation/random-components.ts";
export { productDeltas, type ProductDeltasOptions } from "./strategy/aggregation/product-deltas.ts";
export { raFLoRA } from "./strategy/aggregation/raflora.ts";
export { bufferUpdates, type Combined, shares } from "./strategy/aggregation/buffered-updates.ts";
export { type Component, componentsOf, factorise, type Split, trainedComponents } from "./strategy/aggregation/factorise.ts";
export { type Participation, participation } from "./strategy/aggregation/participation.ts";
export { type ProductSvd, productSvd, type Stack } from "./tensor/product-svd.ts";
export type {
  Accumulator,
  Aggregate,
  Aggregation,
  Client,
  ClientHistory,
  ClientProfile,
  FitOptions,
  PolicyContext,
  PolicyDescription,
  RankAssigner,
  RankedClient,
  RoundContext,
  Selection,
  SelectionContext,
  ServerState,
  SpooledUpdate,
  Strategy,
  Update,
} from "./strategy/strategy.ts";
export type { Rng } from "./base/rng.ts";
export { type Adapter, type Merged, prefix } from "./adapter/adapter.ts";
export { type Segment, segments } from "./adapter/segments.ts";
export type { AdapterLayout, AdapterModule, DenseParameter } from "./adapter/layout.ts";

export type { LaunchOptions, WorkerExit, WorkerLauncher, WorkerProcess } from "./workers/launch.ts";
export { createLanes, type Lanes, type LanesOptions } from "./workers/lanes.ts";
export { processLauncher, type ProcessLauncherOptions } from "./workers/process-launcher.ts";
export { rayLauncher, type RayLauncherOptions } from "./ray/ray-launcher.ts";
export type { TaskIdentity, WorkerHello, WorkerState, WorkerStatus } from "./workers/task.ts";
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
