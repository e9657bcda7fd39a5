import { readFile } from "node:fs/promises";
import path from "node:path";
import { isLanguage } from "../adapter/peft.ts";
import { validateRun } from "../config/build.ts";
import type { RunConfig } from "../config/schema.ts";
import { argumentError } from "../errors.ts";
import { parseJson } from "../base/json.ts";
import { evaluateRound } from "./evaluate.ts";
import type { TierMetrics } from "../records/metrics.ts";
import type { FederateOptions } from "./federate.ts";
import { baseRemarks } from "../records/model-source.ts";
import { rememberCode } from "../records/named-code.ts";
import { originOf } from "../artifacts/init-source.ts";
import { makeLogFolder } from "./log-folder.ts";
import { openSession } from "./session.ts";

export interface EvaluateOptions extends Omit<FederateOptions, "overwrite" | "resume"> {
  /** Ranks at which the adapter is evaluated, any up to its own; the tiers by default. */
  readonly ranks?: readonly number[] | undefined;
  /** If `lora.init_from` is a run: the round whose adapter is evaluated, or `best`; by default the last committed one. */
  readonly round?: number | "best" | undefined;
}

/** The quality of an adapter. */
export interface AdapterEvaluation {
  /** One for each rank, ascending. */
  readonly byTier: readonly TierMetrics[];
  readonly labels: readonly string[];
  /** What the user should know about the data, though it can be used. */
  readonly remarks: readonly string[];
}

/**
 * Evaluates the adapter that `lora.init_from` names (a run's, or any that PEFT wrote), or the base model without one, on the
 * examples that the config holds out from all clients. `data.evalPath` names other examples. Trains nothing and writes nothing.
 */
export async function evaluateAdapter(options: EvaluateOptions): Promise<AdapterEvaluation> {
  const { signal = new AbortController().signal, launcher, ranks, round, ...input } = options;
  const config = { ...atRanks(validateRun(input), ranks), rounds: 0 };
  const logFolder = await makeLogFolder("evaluate");
  await rememberCode(config);
  const origin = await originOf(config, undefined, round);
  const session = await openSession({ config, origin, launcher, signal, logFolder, emit: () => undefined });
  try {
    const { pool, layout, prepared, peft } = session;
    const [labels, evalExamples, ownExamples] = [prepared.labels.length, prepared.n_eval, new Uint32Array(0)];
    const context = { config, pool, layout, labels, isLanguage: isLanguage(peft), evalExamples, ownExamples };
    const adapter = await session.initial();
    const { byTier } = await evaluateRound(context, 0, { global: adapter, presented: adapter, state: {}, generates: true }, []);
    const record = origin?.round === undefined ? undefined : parseJson(await readFile(path.join(origin.path, "run.json"), "utf8"));
    return { byTier, labels: prepared.labels, remarks: [...prepared.remarks, ...baseRemarks(record, session.loaded.source)] };
  } finally {
    await session.close();
  }
}

/** The config with these ranks as its tiers. Nobody trains, so selection and rank assignment do not matter. */
function atRanks(config: RunConfig, ranks: readonly number[] | undefined): RunConfig {
  if (!ranks) return config;
  const tiers = [...new Set(ranks)].toSorted((a, b) => a - b);
  const r = tiers.at(-1);
  if (r === undefined || !tiers.every((rank) => Number.isInteger(rank) && rank >= 1 && rank <= config.lora.r)) {
    const message = `must be whole numbers from 1 to ${config.lora.r}, the adapter's rank, got ${ranks.join(", ") || "none"}`;
    throw argumentError("r", message);
  }
  const { aggregation } = config.strategy;
  return {
    ...config,
    lora: { ...config.lora, r, tiers },
    strategy: { aggregation, selection: () => [], rankAssignment: () => r },
  };
}
