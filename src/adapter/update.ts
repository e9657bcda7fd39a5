import { RefusedError } from "../errors.ts";
import { firstBeyond } from "../tensor/bounds.ts";
import type { Adapter } from "./adapter.ts";
import type { AdapterLayout } from "./layout.ts";

/** Largest size of one value of an update; a fit that moves a weight further has diverged. */
export const LARGEST_DELTA = 64;
/** Relative; a scale passes through decimal text and other languages. */
const SCALE_TOLERANCE = 1e-12;

export interface UpdateClaim {
  readonly layout: AdapterLayout;
  /** What the controller knows. */
  readonly client: { readonly id: string; readonly r: number; readonly n: number };
  /** What the reply says of itself. */
  readonly reply: { readonly client_id: string; readonly r: number; readonly scale: number; readonly n: number };
  /** New − received. */
  readonly payload: { readonly rows?: Float32Array; readonly dense?: Float32Array };
}

/** A client's delta, once everything it claims is so. Throws RefusedError before anything of it counts. */
export function validateUpdate({ layout, client, reply, payload }: UpdateClaim): Adapter {
  const subject = `the update of client ${client.id}`;
  requireSame(`${subject}: client_id`, client.id, reply.client_id);
  requireSame(`${subject}: rank r`, client.r, reply.r);
  requireSame(`${subject}: n`, client.n, reply.n);
  if (!(Math.abs(reply.scale - layout.scale) <= SCALE_TOLERANCE * layout.scale)) {
    throw new RefusedError(`${subject}: scale`, `${layout.scale}`, `${reply.scale}`);
  }
  const rows = requireValues(`${subject}: rows`, payload.rows, client.r * layout.width);
  const dense = requireValues(`${subject}: dense`, payload.dense, layout.denseSize);
  return { r: client.r, rows, dense };
}

function requireSame(subject: string, expected: string | number, received: string | number): void {
  if (expected !== received) throw new RefusedError(subject, `${expected}`, `${received}`);
}

function requireValues(subject: string, received: Float32Array | undefined, length: number): Float32Array {
  const values = received ?? new Float32Array(0);
  if (values.length !== length) throw new RefusedError(subject, `${length} values`, `${values.length}`);
  const beyond = firstBeyond(values, LARGEST_DELTA);
  if (beyond >= 0)
    throw new RefusedError(`${subject}[${beyond}]`, `a finite number of at most ${LARGEST_DELTA} in size`, `${values[beyond]}`);
  return values;
}
