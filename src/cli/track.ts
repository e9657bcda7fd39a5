import path from "node:path";
import { Command } from "commander";
import { parse } from "yaml";
import { z } from "zod";
import { camelKeys } from "../base/case.ts";
import { check, formatPath } from "../config/check.ts";
import { track, type TrackerSpec } from "../config/track-section.ts";
import { argumentError, ConfigError, RunFailedError } from "../errors.ts";
import { unnamedTrackers } from "../records/named-code.ts";
import { readRecord } from "../records/run-record.ts";
import { readRunState, type RunState } from "../records/run-state.ts";
import { plural } from "../report/format.ts";
import { type DeliveredRun, deliverRun } from "../track/deliver-run.ts";
import { readEnding, type TrackedState } from "../track/ending.ts";
import { requireTrackers } from "../track/require-trackers.ts";
import { onInterrupt } from "./interrupt.ts";
import { complain, print } from "./output.ts";

export function trackCommand(): Command {
  return new Command("track")
    .description("deliver to trackers what they lack of a run")
    .argument("<run-dir>", "run directory, such as runs/quickstart")
    .option("--with <tracker...>", "a tracker as in a config: its name, or '{ name: mlflow, … }'. Default: those of the run's config")
    .action(deliver);
}

async function deliver(directory: string, { with: given }: { readonly with?: readonly string[] }): Promise<void> {
  const root = path.resolve(directory);
  const recorded = await recordedTrackers(root);
  const trackers = given === undefined ? recorded : chosenTrackers(given, recorded);
  if (trackers.length === 0)
    throw argumentError("--with", "is needed, since the run's config names no tracker: such as --with tensorboard");
  requireNamed(trackers.filter((spec) => recorded.includes(spec)));
  const interrupt = onInterrupt(complain, "what is delivered stays there");
  try {
    const { signal } = interrupt;
    await requireTrackers(trackers, signal);
    const ending = await readEnding(root, trackedStates[(await readRunState(root)).state]);
    const errors: unknown[] = [];
    for (const spec of trackers) {
      await deliverRun(spec, root, { ending, signal }).then(
        (delivered) => print(describeDelivered(delivered)),
        (error: unknown) => errors.push(error),
      );
    }
    if (errors.length === 1 || signal.aborted) throw errors[0];
    if (errors.length > 1) throw new RunFailedError(errors.map((error) => (error as Error).message).join("\n"));
  } finally {
    interrupt.dispose();
  }
}

function describeDelivered({ tracker, before, round }: DeliveredRun): string {
  if (round <= before) return `${tracker}: had everything already`;
  return `${tracker}: ${plural(round - before, "round")} delivered, up to round ${round}`;
}

const trackedStates: Readonly<Record<RunState, TrackedState>> = {
  running: "running",
  ended: "finished",
  failed: "failed",
  interrupted: "killed",
  killed: "killed",
};

const recordSchema = z.looseObject({ config: z.looseObject({ track: track.default([]) }) });

async function recordedTrackers(root: string): Promise<readonly TrackerSpec[]> {
  const record = await readRecord(root);
  const { value, problems } = check(recordSchema, camelKeys(record), "snake_case");
  if (value) return value.config.track;
  const file = path.join(root, "run.json");
  throw new ConfigError(
    problems.map((problem) => ({ path: formatPath(problem.path, "snake_case"), message: problem.message, location: file })),
  );
}

/** A bare name has the options of the run's config. */
function chosenTrackers(given: readonly string[], recorded: readonly TrackerSpec[]): readonly TrackerSpec[] {
  const { value, problems } = check(track, given.map(readTracker), "snake_case");
  if (problems) {
    throw new ConfigError(
      problems.map((problem) => ({
        path: "--with",
        message: `${formatPath(problem.path.slice(1), "snake_case")} ${problem.message}`.trim(),
        isArgument: true,
      })),
    );
  }
  return value.map((spec) => (hasOptions(spec) ? spec : (recorded.find((other) => other.name === spec.name && hasOptions(other)) ?? spec)));
}

function hasOptions(spec: TrackerSpec): boolean {
  return Object.keys(spec).length > 1;
}

function readTracker(text: string): unknown {
  try {
    return camelKeys(parse(text));
  } catch {
    throw argumentError("--with", "must be the name of a tracker, or '{ name: mlflow, … }' as in a config");
  }
}

/** The run directory may come from somebody else: where it alone says that something is sent to, nothing is sent. */
function requireNamed(trackers: readonly TrackerSpec[]): void {
  const issues = unnamedTrackers(trackers).map(({ value }) => ({
    path: "--with",
    message: `nothing is sent to where only run.json says: if you trust it, add --with '${value}'`,
    isArgument: true,
  }));
  if (issues.length > 0) throw new ConfigError(issues);
}
