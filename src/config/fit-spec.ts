import { z } from "zod";
import { snakeKeys } from "../base/case.ts";
import { createRng, deriveSeed } from "../base/rng.ts";
import { RunFailedError } from "../errors.ts";
import type { fitSpec } from "../protocol/specs.ts";
import { callPolicy, describeGiven, namePolicy } from "../strategy/call-policy.ts";
import type { Client, FitOptions, FitOptionsOf, RankedClient } from "../strategy/strategy.ts";
import { fit as fitSchema } from "./fit-section.ts";
import type { RunConfig } from "./schema.ts";
import { keysOf, toWire } from "./wire-specs.ts";

/** The others decide what these are in a round. */
const sentSchema = fitSchema.omit({ epochs: true, lrBRatio: true, lrSchedule: true, minLr: true, warmupRounds: true });

/** The options of a client's fit in this round: the config's, and those that the strategy sets. */
export function toFitSpec({ fit, rounds, seed, strategy }: RunConfig, round: number, client: RankedClient): z.infer<typeof fitSpec> {
  const sent = toWire<z.output<typeof sentSchema>>(keysOf(sentSchema), fit);
  const rates = ratesIn(fit, round, rounds);
  const rng = (purpose: string) => createRng(deriveSeed(seed, "round", round, "client", client.id, "fit options", purpose));
  const asked = [
    requireFitOptions(namePolicy("aggregation", strategy.aggregation), strategy.aggregation, client, { round, rng }),
    requireFitOptions(namePolicy("rank assignment", strategy.rankAssignment), strategy.rankAssignment, client, { round, rng }),
  ];
  const options: FitOptions = Object.assign({}, ...asked);
  const { freezeA = false, tailPenalty = 0, lrA = 1, lrB = 1, components, fullWeight = sent.full_weight } = options;
  return {
    ...sent,
    full_weight: fullWeight,
    optimizer: snakeKeys(fit.optimizer) as z.infer<typeof fitSpec>["optimizer"],
    local_steps: stepsOf(fit, client),
    lr: rates.lr * lrA,
    lr_b: rates.lrB * lrB,
    head_lr: rates.headLr,
    freeze_a: freezeA,
    components: components ? requireComponents(components, client, fit) : null,
    acting_tail: requireActs(requireActingTail(options.actingTail, fit.actingTail, client), fit, client),
    tail_penalty: tailPenalty,
  };
}

/** Optimizer steps of a client's fit. */
export function stepsOf({ localSteps, epochs, batchSize, gradientAccumulationSteps }: Length, { size }: Pick<Client, "size">): number {
  return epochs === undefined ? localSteps : Math.max(1, Math.round((epochs * size) / (batchSize * gradientAccumulationSteps)));
}

/** Learning rates of a round: of A, of B and of modules trained in full, without what a strategy makes of them for a client. */
export interface Rates {
  readonly lr: number;
  readonly lrB: number;
  readonly headLr: number;
}

export function ratesIn(fit: FitSection, round: number, rounds: number): Rates {
  const factor = rateFactor(fit, round, rounds);
  return { lr: fit.lr * factor, lrB: fit.lr * factor * fit.lrBRatio, headLr: (fit.headLr ?? fit.lr) * factor };
}

/**
 * Share of the full learning rates in a round, counted from 1. Warmup rises by 1 / (warmup rounds + 1) a round. After it, with p the
 * share of the remaining rounds that lie before this one: 1 − p, (1 + cos πp) / 2, or 1 / √(1 + rounds since warmup / τ) with
 * τ = max(1, warmup rounds), as in transformers, whose steps are rounds here.
 */
export function rateFactor({ lr, lrSchedule, minLr, warmupRounds }: FitSection, round: number, rounds: number): number {
  const since = round - 1 - warmupRounds;
  if (since < 0) return round / (warmupRounds + 1);
  const [least, progress] = [minLr / lr, since / (rounds - warmupRounds)];
  switch (lrSchedule) {
    case "constant":
      return 1;
    case "linear":
      return least + (1 - least) * (1 - progress);
    case "cosine":
      return least + ((1 - least) * (1 + Math.cos(Math.PI * progress))) / 2;
    case "inverse_sqrt":
      return Math.max(least, 1 / Math.sqrt(1 + since / Math.max(1, warmupRounds)));
  }
}

type FitSection = RunConfig["fit"];
type Length = Pick<FitSection, "localSteps" | "epochs" | "batchSize" | "gradientAccumulationSteps">;

const weight = z.number().min(0);
const share = z.number().min(0).max(1);
const fitOptions = z.strictObject({
  fullWeight: share.optional(),
  actingTail: share.optional(),
  lrA: weight.optional(),
  lrB: weight.optional(),
  components: z.array(z.number()).optional(),
  freezeA: z.boolean().optional(),
  tailPenalty: weight.optional(),
});

/** What a policy, which may be the user's own code, asks of a client's fit. */
function requireFitOptions(
  subject: string,
  policy: { readonly fitOptions?: FitOptions | FitOptionsOf },
  client: RankedClient,
  context: Parameters<FitOptionsOf>[1],
): FitOptions {
  const { fitOptions: asked = {} } = policy;
  const called = `${subject}, asked for the fit options of client ${client.id},`;
  const given: unknown = typeof asked === "function" ? callPolicy(called, () => asked.call(policy, client, context)) : asked;
  const { data, error } = given instanceof Promise ? {} : fitOptions.safeParse(given);
  if (data) return data as FitOptions;
  const [issue] = error?.issues ?? [];
  const at = issue && issue.path.length > 0 ? `${issue.path.join(".")}: ` : "";
  throw new RunFailedError(`${called} returned ${describeGiven(given)}; expected fit options: ${at}${issue?.message ?? "an object"}`);
}

/** The share of steps in which what is merged acts. Without a tail, that is what an aggregation has merged: it always acts. */
function requireActingTail(asked: number | undefined, inConfig: number, { id }: RankedClient): number {
  if (inConfig > 0) return asked ?? inConfig;
  if (asked === undefined) return 1;
  throw new RunFailedError(
    `the strategy's fit options for client ${id}: actingTail needs fit.acting_tail above 0 in the config, with which clients receive the tail`,
  );
}

/** With epochs, only a client's size tells whether its share of the steps is one at all. */
function requireActs(share: number, fit: FitSection, client: RankedClient): number {
  const steps = stepsOf(fit, client);
  if (fit.epochs === undefined || fit.actingTail === 0 || share === 0 || share * steps >= 1) return share;
  throw new RunFailedError(
    `client ${client.id} has ${steps} steps at fit.epochs ${fit.epochs}, of which fit.acting_tail ${share} is less than one, so the tail would never act; raise one of them`,
  );
}

function requireComponents(components: readonly number[], { id, r }: RankedClient, { clientState }: FitSection): number[] {
  if (clientState === "keep")
    throw new RunFailedError(
      `the strategy's fit options for client ${id}: components cannot be combined with fit.client_state: keep, whose momentum would move the others too`,
    );
  const sorted = [...new Set(components)].toSorted((a, b) => a - b);
  const isRight = sorted.length > 0 && sorted.every((each) => Number.isInteger(each) && each >= 0 && each < r);
  if (isRight) return sorted;
  throw new RunFailedError(
    `the strategy's fit options for client ${id}: components must be whole numbers from 0 to ${r - 1}, its rank being ${r}, and at least one; got [${components.join(", ")}]`,
  );
}
