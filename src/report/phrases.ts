import { hostname } from "node:os";
import { basename, dirname } from "node:path";
import { formatCount, formatNumber, formatPercent, formatSeconds, plural } from "./format.ts";
import { qualityOf } from "./quality.ts";
import type { NewEvent } from "../server/events.ts";
import type { BestRound, EarlyStop } from "../records/best-round.ts";
import type { RoundMetrics } from "../records/metrics.ts";
import type { WorkerStatus } from "../workers/task.ts";
import type { WorkerView } from "./run-view.ts";

/* Sentences that reporters share. */

export type EventOf<T extends NewEvent["type"]> = Extract<NewEvent, { type: T }>;

export function describeData({ clients, labels, evalExamples, truncated }: EventOf<"data-ready">): string {
  const examples = clients.reduce((sum, { size }) => sum + size, 0);
  const parts = [
    plural(clients.length, "client"),
    `${formatCount(examples)} training examples`,
    `${formatCount(evalExamples)} held-out examples`,
    ...(labels.length > 0 ? [plural(labels.length, "label")] : []),
    ...(truncated > 0 ? [`${formatCount(truncated)} examples truncated to data.max_length`] : []),
  ];
  return `data: ${parts.join(", ")}`;
}

/** `adapter: starts from runs/a after round 8, rank 16; 1.2 % of its energy is beyond this run's rank and dropped`. */
export function describeStartingAdapter({ path, round, r, lost }: EventOf<"adapter-ready">): string {
  const source = round === null ? path : `${path} after round ${round}`;
  const dropped = lost > 0 ? `; ${formatPercent(lost)} of its energy is beyond this run's rank and dropped` : "";
  return `adapter: starts from ${source}, rank ${r}${dropped}`;
}

/** `worker w1 is ready on gpu-2: NVIDIA H200 (cuda), torch 2.13.0`; without the machine if it is this one. */
export function describeReady({ workerId, host, device, versions }: EventOf<"worker-ready">): string {
  const where = host === hostname() ? "" : ` on ${host}`;
  return `worker ${workerId} is ready${where}: ${device.name} (${device.type}), torch ${versions["torch"] ?? "?"}`;
}

/** `warning: mlflow cannot be reached: …; the run goes on`. */
export function describeTracker({ tracker, state, round, error: cause = "" }: EventOf<"tracker-status">): string {
  const has = round < 0 ? "nothing" : `everything up to round ${round}`;
  switch (state) {
    case "open":
      return `${tracker}: the run is there, ${round < 0 ? "without rounds so far" : `with rounds up to ${round}`}`;
    case "behind":
      return `warning: ${tracker} has ${has}, and cannot be given more at the moment; the run goes on: ${cause}`;
    case "delivered":
      return `${tracker}: everything is delivered`;
    case "incomplete":
      return `warning: ${tracker} has ${has}; deliver the rest with prelort track, once it can be reached: ${cause}`;
  }
}

export function describeCopy({ directory, copyOf }: EventOf<"folder-copied">): string {
  const origin = `${copyOf.directory}, where process ${copyOf.pid} on ${copyOf.host} has a run in progress`;
  return `warning: ${directory} is a copy of ${origin}; this run continues in the copy and leaves the original unchanged`;
}

/** The run in one line; for a resumed one also the round that it continues from, and warnings. */
export function describeStart({ name, directory, rounds, tiers, resumed }: EventOf<"run-start">): readonly string[] {
  const shape = `${plural(rounds, "round")}, tiers ${tiers.join(", ")}, in ${directory}`;
  if (!resumed) return [`run ${name}: ${shape}`];
  const remarks = resumed.remarks.map((remark) => `warning: ${remark}`);
  const { stopped } = resumed;
  if (stopped) return [`run ${name} is complete, stopped early ${describeStop(stopped, rounds)}: ${shape}`, ...remarks];
  if (resumed.after === rounds) return [`run ${name} is complete: ${shape}`, ...remarks];
  const from = resumed.after < 0 ? "from the beginning" : `after round ${resumed.after} of ${rounds}`;
  const changes = resumed.differences.map(({ path, was, is }) => `${path} was ${JSON.stringify(was)} and is ${JSON.stringify(is)}`);
  const warning = `warning: the bytes may differ from those of an uninterrupted run: ${changes.join("; ")}`;
  return [`run ${name} continues ${from}: ${shape}`, ...remarks, ...(changes.length > 0 ? [warning] : [])];
}

export function describeFailure({ round, clientId, workerId, attempt, willRetry }: EventOf<"client-failure">): string {
  const next = willRetry ? "retrying" : "the round continues without it";
  return `round ${round}: attempt ${attempt} of client ${clientId} failed on worker ${workerId}; ${next}`;
}

/** `fit c03, step 4 of 6`. */
export function describeWorker({ state, task, activity, step, steps }: WorkerStatus): string {
  const doing = task?.kind === "fit" ? `fit ${task.clientId}` : activity;
  const what = state === "busy" || state === "starting" ? doing : state;
  return steps > 0 ? `${what}, step ${step} of ${steps}` : what;
}

/** `c03 on w1, step 4 of 6, 41 s`. */
export function describeWait(worker: WorkerView, now: number): string {
  const { workerId, state, task, step, steps, since } = worker;
  const client = task?.kind === "fit" ? task.clientId : undefined;
  if (state !== "busy" || client === undefined) return `${workerId} ${describeWorker(worker)}`;
  const progress = steps > 0 ? [`step ${step} of ${steps}`] : [];
  return [`${client} on ${workerId}`, ...progress, formatSeconds((now - since) / 1000)].join(", ");
}

/** Workers that do the same are named together: `w0, w3 importing torch; c03 on w1, step 4 of 6, 41 s`. */
export function describeWorkers(workers: readonly WorkerView[], now: number): string {
  const names = new Map<string, string[]>();
  for (const worker of workers) {
    const what = describeWait(worker, now);
    const [rest, name] = what.startsWith(`${worker.workerId} `) ? [what.slice(worker.workerId.length + 1), worker.workerId] : [what, ""];
    names.set(rest, [...(names.get(rest) ?? []), name]);
  }
  return [...names].map(([rest, ids]) => (ids[0] === "" ? rest : `${ids.join(", ")} ${rest}`)).join("; ");
}

export function describeSetAside(event: EventOf<"client-set-aside" | "worker-given-up">): string {
  if (event.type === "client-set-aside") {
    return `round ${event.round}: client ${event.clientId} crashed the worker of its last attempt; it will not be selected again`;
  }
  return `worker slot of ${event.workerId} (${event.device}) disabled: too many workers crashed there in a row`;
}

/** `accuracy 12.1 % at rank 1, 14.5 % at rank 2`. */
export function describeQuality(metrics: RoundMetrics): string {
  const quality = qualityOf([metrics]);
  return `${quality.name} ${metrics.byTier.map((tier) => `${quality.format(quality.of(tier))} at rank ${tier.r}`).join(", ")}`;
}

export function describeFits({ reported, failed, late, fitLoss }: RoundMetrics): string {
  const failures = failed.length > 0 ? `, ${failed.length} failed (${failed.join(", ")})` : "";
  const dropped = late.length > 0 ? `, ${late.length} late (${late.join(", ")})` : "";
  return `${reported.length} reported${failures}${dropped}, training loss ${formatNumber(fitLoss)}`;
}

export function describePaths({ directory, adapters, best }: EventOf<"run-end">): readonly string[] {
  return [
    `run:       ${directory}`,
    ...describeFolders(adapters).map((folders) => `adapters:  ${folders}`),
    ...(best ? [`best:      ${describeBest(best)}`, ...describeFolders(best.adapters).map((folders) => `           ${folders}`)] : []),
  ];
}

/** `runs/a/adapters: r1, r2`. */
function describeFolders(adapters: readonly string[]): readonly string[] {
  const folders = [...new Set(adapters.map((adapter) => dirname(adapter)))];
  return folders.map((folder) => `${folder}: ${adapters.map((adapter) => basename(adapter)).join(", ")}`);
}

/** `round 3 (accuracy 14.5 %, area over the ranks)`. */
export function describeBest({ round, value, metric, at }: BestRound): string {
  const shown = SHARES.has(metric) ? formatPercent(value) : formatNumber(value);
  const where = at === "area" ? "area over the ranks" : at === "worst" ? "worst tier" : `rank ${at}`;
  return `round ${round} (${metric} ${shown}, ${where})`;
}

const SHARES: ReadonlySet<string> = new Set(["accuracy", "macro_f1", "rouge_l", "ece"]);

/** `after round 5 of 8, since the target is reached`. */
export function describeStop({ round, reason }: EarlyStop, rounds: number): string {
  const why = reason === "target" ? "the target is reached" : "the metric improves no more";
  return `after round ${round} of ${rounds}, since ${why}`;
}

/** `stops early after round 5 of 8, since the target is reached; best: round 5 (loss 1.2, area over the ranks)`. */
export function describeEarlyStop({ best, ...stopped }: EventOf<"early-stop">, rounds: number): string {
  return `stops early ${describeStop(stopped, rounds)}${best ? `; best: ${describeBest(best)}` : ""}`;
}
