import { z } from "zod";
import { RefusedError } from "../errors.ts";
import { parseJson } from "../base/json.ts";
import { decodeSafetensors, encodeSafetensors, type FloatTensor } from "../tensor/safetensors.ts";
import type { Adapter } from "./adapter.ts";
import { type AdapterLayout, createLayout } from "./layout.ts";

/*
 * The global adapter as a self-contained safetensors file: `rows` [R, width], `dense` [size], and in the metadata the round
 * and the layout's description; if components are merged into the base, also `merged` [n, width], and in the metadata their
 * number after each round.
 */

export interface GlobalFile {
  readonly layout: AdapterLayout;
  readonly adapter: Adapter;
  readonly round: number;
}

/** The file's consecutive parts. */
export function encodeGlobal(layout: AdapterLayout, adapter: Adapter, round: number): readonly Uint8Array[] {
  const tensors = new Map([
    ["rows", { shape: [layout.r, layout.width], values: adapter.rows }],
    ["dense", { shape: [layout.denseSize], values: adapter.dense }],
  ]);
  const metadata = { layout: JSON.stringify(describeLayout(layout)), round: `${round}` };
  if (!adapter.merged) return encodeSafetensors(tensors, metadata);
  const { rows, ends } = adapter.merged;
  tensors.set("merged", { shape: [rows.length / layout.width, layout.width], values: rows });
  return encodeSafetensors(tensors, { ...metadata, merged_ends: JSON.stringify(ends) });
}

/** Throws RefusedError for a file that encodeGlobal did not write. `subject` names it in errors. */
export function decodeGlobal(bytes: Uint8Array, subject = "a global adapter"): GlobalFile {
  const { tensors, metadata } = decodeSafetensors(bytes, subject);
  const described = metadataSchema.safeParse(metadata);
  if (!described.success) throw new RefusedError(`the metadata of ${subject}`, "a layout and a round", whatIsWrong(described.error));
  const { layout: description, round, merged_ends: ends } = described.data;
  const layout = layoutOf(description, subject);
  const valuesOf = (name: string, shape: readonly number[]) => requireTensor(`tensor ${name} of ${subject}`, tensors.get(name), shape);
  const adapter = {
    r: layout.r,
    rows: valuesOf("rows", [layout.r, layout.width]),
    dense: valuesOf("dense", [layout.denseSize]),
    ...(ends && { merged: { rows: valuesOf("merged", [ends.at(-1) ?? 0, layout.width]), ends } }),
  };
  return { layout, adapter, round };
}

const size = z.number().int().positive();
const layoutSchema = z.strictObject({
  r: size,
  tiers: z.array(size),
  scale: z.number(),
  modules: z.array(z.strictObject({ name: z.string(), in: size, out: size })),
  dense: z.array(z.strictObject({ name: z.string(), shape: z.array(size) })),
});
const metadataSchema = z.strictObject({
  layout: z.string().transform(parseJson).pipe(layoutSchema),
  round: z.coerce.number().int().nonnegative(),
  merged_ends: z.string().transform(parseJson).pipe(z.array(z.number().int().nonnegative())).optional(),
});

function whatIsWrong({ issues }: z.ZodError): string {
  const keys = issues.map(({ path }) => path.join("."));
  return `something else for ${[...new Set(keys)].join(", ") || "all of it"}`;
}

function layoutOf(description: z.infer<typeof layoutSchema>, subject: string): AdapterLayout {
  try {
    return createLayout(description, description);
  } catch (error) {
    throw new RefusedError(`the layout of ${subject}`, "a possible one", (error as Error).message);
  }
}

/** Sizes alone: the offsets follow from them. */
function describeLayout({ r, tiers, scale, modules, dense }: AdapterLayout): z.infer<typeof layoutSchema> {
  return {
    r,
    tiers: [...tiers],
    scale,
    modules: modules.map((module) => ({ name: module.name, in: module.in, out: module.out })),
    dense: dense.map(({ name, shape }) => ({ name, shape: [...shape] })),
  };
}

function requireTensor(subject: string, tensor: FloatTensor | undefined, shape: readonly number[]): Float32Array {
  const [expected, received] = [JSON.stringify(shape), JSON.stringify(tensor?.shape)];
  if (!tensor || received !== expected) throw new RefusedError(subject, `shape ${expected}`, received ?? "no such tensor");
  return tensor.values;
}
