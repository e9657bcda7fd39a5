import { createHash } from "node:crypto";
import type { ControllerMessageOf } from "../protocol/messages.ts";
import { createRng, deriveSeed } from "../base/rng.ts";
import { type ClientColumns, startsOf } from "../protocol/client-columns.ts";

/** Inputs of an example. With as many labels, an adapter of the tiny model has rank 8 at most. */
export const FEATURES = 8;
export const LABELS: readonly string[] = ["a", "b", "c", "d", "e", "f", "g", "h"];

export interface Example {
  readonly x: readonly number[];
  /** Index of its label. */
  readonly y: number;
}

export interface TinyClient {
  readonly id: string;
  readonly train: readonly Example[];
  readonly heldOut: readonly Example[];
}

export interface TinyData {
  /** Held out from all clients. */
  readonly heldOut: readonly Example[];
  readonly clients: readonly TinyClient[];
  readonly sha256: string;
}

/** Of a model that is loaded without data. */
export const NO_DATA: TinyData = { heldOut: [], clients: [], sha256: "" };

/** Eight clouds of points, one per label. Clients have 32, 40, 48 or 56 examples, at least half of them with the client's own label. */
export function makeTinyData(
  seed: string,
  sizes: { readonly clients: number; readonly heldOut: number; readonly ownHeldOut: number },
): TinyData {
  const rng = createRng(deriveSeed(seed, "clouds"));
  const uniform = () => 2 * rng.next() - 1;
  const centres = LABELS.map(() => Array.from({ length: FEATURES }, () => 2 * uniform()));
  const draw = (y = Math.floor(rng.next() * LABELS.length)): Example => ({ x: centres[y]?.map((value) => value + uniform()) ?? [], y });
  const drawMany = (count: number, preferred?: number) =>
    Array.from({ length: count }, (_, index) => draw(index % 2 === 0 ? preferred : undefined));

  const heldOut = drawMany(sizes.heldOut);
  const clients = Array.from({ length: sizes.clients }, (_, index) => {
    const preferred = index % LABELS.length;
    const train = drawMany(32 + 8 * (index % 4), preferred);
    return { id: `c${index}`, train, heldOut: drawMany(sizes.ownHeldOut, preferred) };
  });
  const sha256 = createHash("sha256")
    .update(JSON.stringify([heldOut, clients]))
    .digest("hex");
  return { heldOut, clients, sha256 };
}

/** What a worker reports of these clients. */
export function columnsOf({ clients }: TinyData): Omit<ClientColumns, "indexOf"> {
  const held = clients.map(({ train }) =>
    LABELS.map((_, label) => ({ label, count: train.filter(({ y }) => y === label).length })).filter(({ count }) => count > 0),
  );
  const pairs = held.flat();
  const nothing = new Uint32Array(clients.length);
  return {
    ids: clients.map(({ id }) => id),
    n: Uint32Array.from(clients, ({ train }) => train.length),
    nEval: Uint32Array.from(clients, ({ heldOut }) => heldOut.length),
    nTokens: nothing,
    nTruncated: nothing,
    labelCounts: {
      starts: startsOf(Uint32Array.from(held, ({ length }) => length)),
      keys: Uint32Array.from(pairs, ({ label }) => label),
      counts: Uint32Array.from(pairs, ({ count }) => count),
    },
    mix: { starts: startsOf(nothing), keys: new Uint32Array(0), counts: new Uint32Array(0) },
    values: [],
  };
}

/** The examples that a task evaluates, before `start` and `count`. */
export function examplesOf(
  { examples, client_id }: Pick<ControllerMessageOf<"evaluate">, "examples" | "client_id">,
  data: TinyData,
): readonly Example[] {
  if (examples === "global") return data.heldOut;
  const client = data.clients.find(({ id }) => id === client_id);
  return (examples === "client" ? client?.heldOut : client?.train) ?? [];
}
