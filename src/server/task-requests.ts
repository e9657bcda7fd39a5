import type { Adapter } from "../adapter/adapter.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import type { RunConfig } from "../config/schema.ts";
import type { RankedClient } from "../strategy/strategy.ts";
import { deriveSeed } from "../base/rng.ts";
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

/** Shapes of the tensors of an update to this adapter. */
export function updateShapes({ r }: Adapter, { width, denseSize }: AdapterLayout): { rows: number[]; dense?: number[] } {
  const rows = [r, width];
  return denseSize > 0 ? { rows, dense: [denseSize] } : { rows };
}
