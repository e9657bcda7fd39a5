import type { Adapter } from "../adapter/adapter.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import { stateLength } from "../adapter/optimizer-state.ts";
import type { RunConfig } from "../config/schema.ts";
import type { RankedClient } from "../strategy/strategy.ts";
import { deriveSeed } from "../base/rng.ts";
import type { ExpectedShapes } from "../protocol/tensor-chunks.ts";
import type { TaskRequest } from "../workers/task.ts";
import { toFitSpec } from "../config/fit-spec.ts";
import { WIRE_DTYPES } from "../config/wire-specs.ts";

/** The seed of a client's fit in a round. */
export function fitSeed(seed: number, round: number, clientId: string): string {
  return deriveSeed(seed, "round", round, "client", clientId, "fit");
}

/** The request for one client's fit; `steps` replaces the config's number of steps. */
export function fitRequest(
  config: RunConfig,
  { scale }: AdapterLayout,
  fit: {
    readonly round: number;
    readonly client: RankedClient;
    readonly seed: string;
    readonly steps?: number;
    readonly partialSum?: TaskRequest<"fit">["partial_sum"];
  },
): TaskRequest<"fit"> {
  const { round, client, seed, steps, partialSum = null } = fit;
  return {
    type: "fit",
    round,
    client_id: client.id,
    r: client.r,
    scale,
    seed,
    fit: { ...toFitSpec(config, round, client), ...(steps !== undefined && { local_steps: steps }) },
    update_dtype: WIRE_DTYPES[config.wire.update],
    partial_sum: partialSum,
  };
}

/** Shapes of the tensors of an answer to a fit from this adapter. */
export function answerShapes(config: RunConfig, layout: AdapterLayout, { r }: Adapter): ExpectedShapes {
  const { width, denseSize } = layout;
  const state = stateLengthIn(config, layout, r);
  return { rows: [r, width], ...(denseSize > 0 && { dense: [denseSize] }), ...(state > 0 && { state: [state] }) };
}

/** Number of values in the state that a client's optimizer keeps from a fit at rank r; 0 if each fit has a new one. */
export function stateLengthIn({ fit }: Pick<RunConfig, "fit">, layout: AdapterLayout, r: number): number {
  return fit.clientState === "keep" ? stateLength(fit.optimizer, layout, r) : 0;
}
