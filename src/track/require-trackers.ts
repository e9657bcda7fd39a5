import { existsSync } from "node:fs";
import process from "node:process";
import { execa } from "execa";
import { z } from "zod";
import { parseJson } from "../base/json.ts";
import type { TrackerSpec } from "../config/track-section.ts";
import { ConfigError, EnvironmentError, InterruptedError } from "../errors.ts";
import { pythonEnvironment, trackerPython } from "../installation.ts";
import type { TrackerStatus } from "./delivery.ts";
import { trackerArguments } from "./tracker-process.ts";

/**
 * A tracker that does not answer by then is not there, as far as the start of a run is concerned. Clients give up on a server much
 * sooner; this is for those that take long to be imported.
 */
const PATIENCE_MS = 30_000;

const answerSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("ok") }),
  z.object({ type: z.enum(["missing", "refused", "unreachable"]), message: z.string() }),
]);

/**
 * Checks that the trackers can be used. Throws an EnvironmentError if the package of one is missing, and a ConfigError if one refuses
 * the credentials. Returns those that cannot be reached: they may come back.
 */
export async function requireTrackers(trackers: readonly TrackerSpec[], signal: AbortSignal): Promise<readonly TrackerStatus[]> {
  for (const { name } of trackers) {
    if (!existsSync(trackerPython(name))) throw missing(name, `${trackerPython(name)} does not exist`);
  }
  const answers = await Promise.all(trackers.map((spec) => ask(spec, signal)));
  const issues = answers.flatMap((answer, index) =>
    answer.type === "refused" ? [{ path: `track[${index}]`, message: `${trackers[index]?.name}: ${answer.message}` }] : [],
  );
  if (issues.length > 0) throw new ConfigError(issues);
  return trackers.flatMap(({ name }, index) => {
    const answer = answers[index];
    if (answer?.type === "missing") throw missing(name, answer.message);
    return answer?.type === "unreachable" ? [{ tracker: name, state: "behind", round: -1, error: answer.message } as const] : [];
  });
}

async function ask(spec: TrackerSpec, signal: AbortSignal): Promise<z.output<typeof answerSchema>> {
  const args = [...trackerArguments("check", spec), "--parent-pid", `${process.pid}`];
  const { stdout, stderr, timedOut, originalMessage } = await execa(trackerPython(spec.name), args, {
    cancelSignal: signal,
    env: pythonEnvironment(),
    reject: false,
    timeout: PATIENCE_MS,
    forceKillAfterDelay: 0,
  });
  if (signal.aborted) throw new InterruptedError();
  if (timedOut) return { type: "unreachable", message: `it did not answer within ${PATIENCE_MS / 1000} seconds` };
  const { data } = answerSchema.safeParse(parseJson(stdout));
  return data ?? { type: "missing", message: stderr.trimEnd().split("\n").slice(-3).join("\n  ") || (originalMessage ?? "") };
}

function missing(name: string, message: string): EnvironmentError {
  return new EnvironmentError(`track: the Python package of ${name} cannot be used: ${message}`, `npx prelort setup --track ${name}`);
}
