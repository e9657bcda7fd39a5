import { RefusedError } from "../errors.ts";
import { firstBeyond } from "../tensor/bounds.ts";
import { asFloat32, type Encoded } from "../tensor/encoded.ts";
import type { Work } from "../tensor/turns.ts";
import type { Adapter } from "./adapter.ts";
import type { AdapterLayout } from "./layout.ts";
import { decodeLazily } from "./travel.ts";

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
  readonly payload: { readonly rows?: Encoded; readonly dense?: Encoded };
}

/** A client's delta, once everything it claims is so. Throws RefusedError before anything of it counts. */
export function* validateUpdate({ layout, client, reply, payload }: UpdateClaim): Work<Adapter> {
  const subject = `the update of client ${client.id}`;
  requireSame(`${subject}: client_id`, client.id, reply.client_id);
  requireSame(`${subject}: rank r`, client.r, reply.r);
  requireSame(`${subject}: n`, client.n, reply.n);
  if (!(Math.abs(reply.scale - layout.scale) <= SCALE_TOLERANCE * layout.scale)) {
    throw new RefusedError(`${subject}: scale`, `${layout.scale}`, `${reply.scale}`);
  }
  const rows = yield* requireValues(`${subject}: rows`, payload.rows, client.r * layout.width);
  const dense = yield* requireValues(`${subject}: dense`, payload.dense, layout.denseSize);
  return decodeLazily(client.r, rows, dense);
}

/** Every aggregation that sums refuses what is beyond, whoever made it. */
export function* requireWithinBounds(subject: string, values: Encoded): Work<void> {
  const beyond = yield* firstBeyond(values, LARGEST_DELTA);
  if (!beyond) return;
  throw new RefusedError(`${subject}[${beyond.index}]`, `a finite number of at most ${LARGEST_DELTA} in size`, `${beyond.value}`);
}

function requireSame(subject: string, expected: string | number, received: string | number): void {
  if (expected !== received) throw new RefusedError(subject, `${expected}`, `${received}`);
}

function* requireValues(subject: string, received: Encoded | undefined, length: number): Work<Encoded> {
  const values = received ?? asFloat32(new Float32Array(0));
  if (values.length !== length) throw new RefusedError(subject, `${length} values`, `${values.length}`);
  yield* requireWithinBounds(subject, values);
  return values;
}
