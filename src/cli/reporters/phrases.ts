import { basename, dirname } from "node:path";
import { formatCount, formatNumber, plural } from "../../report/format.ts";
import { qualityOf } from "../../report/quality.ts";
import type { RoundMetrics, RunEvent } from "../../server/events.ts";
import type { WorkerStatus } from "../../workers/task.ts";

/* Sentences that more than one reporter says. */

type EventOf<T extends RunEvent["type"]> = Extract<RunEvent, { type: T }>;

export function describeData({ clients, labels, evalExamples, truncated }: EventOf<"data-ready">): string {
  const examples = clients.reduce((sum, { size }) => sum + size, 0);
  const parts = [
    `${plural(clients.length, "client")} hold ${formatCount(examples)} training examples`,
    `${formatCount(evalExamples)} are held out`,
    ...(labels.length > 0 ? [plural(labels.length, "label")] : []),
    ...(truncated > 0 ? [`${formatCount(truncated)} examples were cut to data.max_length`] : []),
  ];
  return `data: ${parts.join(", ")}`;
}

/** What a run is, a line; where it is gone on with, from which round, and what may change its bytes. */
export function describeStart({ name, directory, rounds, tiers, resumed }: EventOf<"run-start">): readonly string[] {
  const shape = `${plural(rounds, "round")}, tiers ${tiers.join(", ")}, in ${directory}`;
  if (!resumed) return [`run ${name}: ${shape}`];
  const done = resumed.after < 0 ? "from its beginning" : `after round ${resumed.after} of ${rounds}`;
  const others = resumed.differences.map(({ path, was, is }) => `${path} was ${JSON.stringify(was)} and is ${JSON.stringify(is)}`);
  const warning = `warning: the bytes may not be those of a run that had not stopped: ${others.join("; ")}`;
  return [`run ${name} goes on ${done}: ${shape}`, ...(others.length > 0 ? [warning] : [])];
}

export function describeFailure({ round, clientId, workerId, attempt, willRetry }: EventOf<"client-failure">): string {
  const next = willRetry ? "it is tried again" : "the round goes on without it";
  return `round ${round}: attempt ${attempt} of client ${clientId} failed on worker ${workerId}; ${next}`;
}

/** `fit c03, step 4 of 6`. */
export function describeWorker({ state, activity, step, steps }: WorkerStatus): string {
  const what = state === "busy" || state === "starting" ? activity : state;
  return steps > 0 ? `${what}, step ${step} of ${steps}` : what;
}

/** `accuracy 12.1 % at rank 1, 14.5 % at rank 2`. */
export function describeQuality(metrics: RoundMetrics): string {
  const quality = qualityOf([metrics]);
  return `${quality.name} ${metrics.byTier.map((tier) => `${quality.format(quality.of(tier))} at rank ${tier.r}`).join(", ")}`;
}

export function describeFits({ reported, failed, fitLoss }: RoundMetrics): string {
  const failures = failed.length > 0 ? `, ${failed.length} failed (${failed.join(", ")})` : "";
  return `${reported.length} reported${failures}, training loss ${formatNumber(fitLoss)}`;
}

export function describePaths({ directory, adapters }: EventOf<"run-end">): readonly string[] {
  const folders = [...new Set(adapters.map((adapter) => dirname(adapter)))];
  return [
    `run:       ${directory}`,
    ...folders.map((folder) => `adapters:  ${folder}: ${adapters.map((adapter) => basename(adapter)).join(", ")}`),
  ];
}
