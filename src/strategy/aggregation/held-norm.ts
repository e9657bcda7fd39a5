import { RefusedError } from "../../errors.ts";
import type { HeldUpdate } from "../strategy.ts";

/** The norm of an update that its worker holds, where the aggregation asked for it. */
export function heldNorm({ clientId, norm }: HeldUpdate): number {
  if (norm === null || !(norm >= 0)) throw new RefusedError(`the update of client ${clientId}: norm`, "a number from 0", `${norm}`);
  return norm;
}
