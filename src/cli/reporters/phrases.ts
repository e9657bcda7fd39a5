import { basename, dirname } from "node:path";
import { formatCount, formatNumber, formatPercent, formatSeconds, plural } from "../../report/format.ts";
import { qualityOf } from "../../report/quality.ts";
import type { RunEvent } from "../../server/events.ts";
import type { RoundMetrics } from "../../records/metrics.ts";
import type { WorkerStatus } from "../../workers/task.ts";
import type { WorkerView } from "./run-view.ts";

/* Sentences that more than one reporter says. */

export type EventOf<T extends RunEvent["type"]> = Extract<RunEvent, { type: T }>;

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

/** `adapter: starts from that of runs/a after round 8, rank 16; 1.2 % of its energy lay in ranks that this run has not`. */
export function describeStartingAdapter({ path, round, r, lost }: EventOf<"adapter-ready">): string {
  const what = round === null ? path : `that of ${path} after round ${round}`;
  const gone = lost > 0 ? `; ${formatPercent(lost)} of its energy lay in ranks that this run has not, and is left out` : "";
  return `adapter: starts from ${what}, rank ${r}${gone}`;
}

/** A copy of a run that was under way goes on by itself. */
export function describeCopy({ directory, copyOf }: EventOf<"folder-copied">): string {
  const origin = `${copyOf.directory}, where process ${copyOf.pid} on ${copyOf.host} had a run under way`;
  return `warning: ${directory} is a copy of ${origin}; this run goes on in the copy, and leaves that one alone`;
}

/** What a run is, a line; where it is gone on with, from which round, and what may change its bytes. */
export function describeStart({ name, directory, rounds, tiers, resumed }: EventOf<"run-start">): readonly string[] {
  const shape = `${plural(rounds, "round")}, tiers ${tiers.join(", ")}, in ${directory}`;
  if (!resumed) return [`run ${name}: ${shape}`];
  const remarks = resumed.remarks.map((remark) => `warning: ${remark}`);
  if (resumed.after === rounds) return [`run ${name} had all of its rounds: ${shape}`, ...remarks];
  const done = resumed.after < 0 ? "from its beginning" : `after round ${resumed.after} of ${rounds}`;
  const others = resumed.differences.map(({ path, was, is }) => `${path} was ${JSON.stringify(was)} and is ${JSON.stringify(is)}`);
  const warning = `warning: the bytes may not be those of a run that had not stopped: ${others.join("; ")}`;
  return [`run ${name} goes on ${done}: ${shape}`, ...remarks, ...(others.length > 0 ? [warning] : [])];
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

/** What a worker is waited for: `c03 on w1, step 4 of 6, 41 s`. */
export function describeWait(worker: WorkerView, now: number): string {
  const { workerId, state, task, step, steps, since } = worker;
  const client = task?.kind === "fit" ? task.clientId : undefined;
  if (state !== "busy" || client === undefined) return `${workerId} ${describeWorker(worker)}`;
  const progress = steps > 0 ? [`step ${step} of ${steps}`] : [];
  return [`${client} on ${workerId}`, ...progress, formatSeconds((now - since) / 1000)].join(", ");
}

export function describeSetAside(event: EventOf<"client-set-aside" | "worker-given-up">): string {
  if (event.type === "client-set-aside") {
    return `round ${event.round}: client ${event.clientId} ended every worker that it was tried on, and is selected no more`;
  }
  return `too many workers ended in a row in the place of ${event.workerId} (${event.device}), which stays empty`;
}

/** `accuracy 12.1 % at rank 1, 14.5 % at rank 2`. */
export function describeQuality(metrics: RoundMetrics): string {
  const quality = qualityOf([metrics]);
  return `${quality.name} ${metrics.byTier.map((tier) => `${quality.format(quality.of(tier))} at rank ${tier.r}`).join(", ")}`;
}

export function describeFits({ reported, failed, late, fitLoss }: RoundMetrics): string {
  const failures = failed.length > 0 ? `, ${failed.length} failed (${failed.join(", ")})` : "";
  const latecomers = late.length > 0 ? `, ${late.length} not waited for (${late.join(", ")})` : "";
  return `${reported.length} reported${failures}${latecomers}, training loss ${formatNumber(fitLoss)}`;
}

export function describePaths({ directory, adapters }: EventOf<"run-end">): readonly string[] {
  const folders = [...new Set(adapters.map((adapter) => dirname(adapter)))];
  return [
    `run:       ${directory}`,
    ...folders.map((folder) => `adapters:  ${folder}: ${adapters.map((adapter) => basename(adapter)).join(", ")}`),
  ];
}
