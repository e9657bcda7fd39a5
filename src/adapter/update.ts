import { RefusedError } from "../errors.ts";
import { beyondBounds, firstBeyond } from "../tensor/bounds.ts";
import { asFloat32, type Encoded } from "../tensor/encoded.ts";
import type { Work } from "../base/turns.ts";
import type { Adapter } from "./adapter.ts";
import type { AdapterLayout } from "./layout.ts";
import { decodeLazily, encodingOf } from "./encoded-adapter.ts";

/** Largest absolute value in an update; a fit that moves a weight further has diverged. */
export const LARGEST_DELTA = 64;
/** Relative, since a scale passes through decimal text and other languages. */
const SCALE_TOLERANCE = 1e-12;

export interface UpdateClaim {
  readonly layout: AdapterLayout;
  /** What the controller knows. */
  readonly client: { readonly id: string; readonly r: number; readonly n: number };
  /** What the reply claims. */
  readonly reply: { readonly client_id: string; readonly r: number; readonly scale: number; readonly n: number };
  /** New − received. */
  readonly payload: { readonly rows?: Encoded; readonly dense?: Encoded };
}

/** Checks everything a reply claims except its values, and returns the delta. Throws RefusedError before any of it counts. */
export function validateUpdate({ payload, ...claim }: UpdateClaim): Adapter {
  const { layout, client } = claim;
  validateClaim(claim);
  const subject = `the update of client ${client.id}`;
  const rows = requireLength(`${subject}: rows`, payload.rows, client.r * layout.width);
  const dense = requireLength(`${subject}: dense`, payload.dense, layout.denseSize);
  return decodeLazily(client.r, rows, dense);
}

/** Checks what a reply claims about an update. Throws RefusedError. */
export function validateClaim({ layout, client, reply }: Omit<UpdateClaim, "payload">): void {
  const subject = `the update of client ${client.id}`;
  requireSame(`${subject}: client_id`, client.id, reply.client_id);
  requireSame(`${subject}: rank r`, client.r, reply.r);
  requireSame(`${subject}: n`, client.n, reply.n);
  if (!(Math.abs(reply.scale - layout.scale) <= SCALE_TOLERANCE * layout.scale)) {
    throw new RefusedError(`${subject}: scale`, `${layout.scale}`, `${reply.scale}`);
  }
}

/** Throws RefusedError for a delta with a value that is not finite or too large. */
export function* requireWithinBounds(clientId: string, delta: Adapter): Work<void> {
  const { rows, dense } = encodingOf(delta);
  for (const [name, values] of Object.entries({ rows, dense })) {
    const beyond = yield* firstBeyond(values, LARGEST_DELTA);
    if (beyond) throw beyondBounds(`the update of client ${clientId}: ${name}`, beyond, LARGEST_DELTA);
  }
}

function requireSame(subject: string, expected: string | number, received: string | number): void {
  if (expected !== received) throw new RefusedError(subject, `${expected}`, `${received}`);
}

function requireLength(subject: string, received: Encoded | undefined, length: number): Encoded {
  const values = received ?? asFloat32(new Float32Array(0));
  if (values.length !== length) throw new RefusedError(subject, `${length} values`, `${values.length}`);
  return values;
}
