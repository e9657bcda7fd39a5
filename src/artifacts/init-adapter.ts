import type { Adapter } from "../adapter/adapter.ts";
import { energy } from "../adapter/energy.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import type { AdapterFactors } from "../adapter/peft-adapter.ts";
import { ConfigError } from "../errors.ts";
import { componentsOf, factorise } from "../strategy/aggregation/factorise.ts";
import type { Source } from "./init-source.ts";

export interface Start {
  /** The global adapter before round 1, at rank R. */
  readonly adapter: Adapter;
  /** Rank of the source adapter: the largest of its modules. */
  readonly r: number;
  /** Share of the energy ‖s·B·A‖² above rank R, which was cut; 0 if the source adapter had no higher rank. */
  readonly lost: number;
}

/**
 * A global adapter that starts from another one. Rows of a run's adapter are copied, since it is nested. Any other adapter is
 * factorised again by SVD, with √σ in both factors, so that each prefix is the best approximation of its rank; a module with
 * B = 0, an initialisation, keeps its A. Missing components up to R, and parameters that the source did not train in full, are those of
 * `initial`, which was drawn at random.
 */
export function startFrom({ factors, isNested, origin }: Source, layout: AdapterLayout, initial: Adapter): Start {
  const issues = [...moduleIssues(factors, layout), ...denseIssues(factors, layout)];
  if (issues.length > 0)
    throw new ConfigError(issues.map((message) => ({ path: "lora.init_from", message: `${origin.path}: ${message}` })));
  const rows = stackedRows(factors, layout);
  const r = rows.length / layout.width;
  const all = energy(layout, rows, 0, r);
  const ordered = isNested ? rows : factorise(componentsOf(rows, layout.width), layout, initial.rows);
  const kept = withBlank(factors, layout, prefixOver(ordered, initial.rows), initial.rows);
  const lost = r > layout.r && all > 0 ? Math.max(0, 1 - energy(layout, kept, 0, layout.r) / all) : 0;
  return { adapter: { r: layout.r, rows: kept, dense: denseOf(factors, layout, initial.dense) }, r, lost };
}

/** With A as it is in modules whose B is zero, so that nothing orders it; rows of A that are zero, too, are those of `initial`. */
function withBlank(
  { modules }: AdapterFactors,
  { r: most, width, ...layout }: AdapterLayout,
  rows: Float32Array,
  initial: Float32Array,
): Float32Array {
  for (const { name, in: input, offset } of layout.modules) {
    const { r, a, b } = modules.get(name)!;
    if (b.some((value) => value !== 0)) continue;
    for (let row = 0; row < Math.min(r, most); row++) {
      const start = row * width + offset;
      const own = a.subarray(row * input, (row + 1) * input);
      rows.set(own.some((value) => value !== 0) ? own : initial.subarray(start, start + input), start);
    }
  }
  return rows;
}

/** [n, width], where n is the largest rank of a module; modules of lower rank are padded with zeros. Scaled for the layout's s. */
function stackedRows({ modules }: AdapterFactors, { width, scale, ...layout }: AdapterLayout): Float32Array {
  const most = [...modules.values()].reduce((largest, { r }) => Math.max(largest, r), 0);
  const rows = new Float32Array(most * width);
  for (const { name, in: input, out, offset } of layout.modules) {
    const { r, a, b, scale: own } = modules.get(name)!;
    for (let row = 0; row < r; row++) {
      const start = row * width + offset;
      rows.set(a.subarray(row * input, (row + 1) * input), start);
      for (let index = 0; index < out; index++) rows[start + input + index] = (own / scale) * (b[index * r + row] as number);
    }
  }
  return rows;
}

/** As many of the first rows as fit, followed by the remaining rows of `initial`. */
function prefixOver(rows: Float32Array, initial: Float32Array): Float32Array {
  const all = initial.slice();
  all.set(rows.subarray(0, all.length));
  return all;
}

function denseOf({ dense }: AdapterFactors, layout: AdapterLayout, initial: Float32Array): Float32Array {
  const all = initial.slice();
  for (const { name, offset } of layout.dense) {
    const found = dense.get(name);
    if (found) all.set(found.values, offset);
  }
  return all;
}

function moduleIssues({ modules }: AdapterFactors, layout: AdapterLayout): readonly string[] {
  const wanted = new Map(layout.modules.map((module) => [module.name, module]));
  const missing = [...wanted.keys()].filter((name) => !modules.has(name));
  const unknown = [...modules.keys()].filter((name) => !wanted.has(name));
  const misshapen = [...modules].flatMap(([name, { in: input, out }]) => {
    const module = wanted.get(name);
    if (!module || (module.in === input && module.out === out)) return [];
    return [`${name}: expected ${module.in} values in and ${module.out} out, as in the base model, got ${input} and ${out}`];
  });
  const remedy = "lora.target_modules must select the same modules";
  return [
    ...(missing.length > 0 ? [`does not adapt ${list(missing)}, but this run does; ${remedy}`] : []),
    ...(unknown.length > 0 ? [`adapts ${list(unknown)}, but this run does not; ${remedy}`] : []),
    ...misshapen,
  ];
}

function denseIssues({ dense }: AdapterFactors, layout: AdapterLayout): readonly string[] {
  const wanted = new Map(layout.dense.map(({ name, shape }) => [name, shape]));
  return [...dense].flatMap(([name, { shape }]) => {
    const expected = wanted.get(name);
    if (!expected) return [`trained ${name} in full, but this run does not; lora.modules_to_save must name its module`];
    const [wantedShape, found] = [expected.join(", "), shape.join(", ")];
    return wantedShape === found ? [] : [`${name}: expected shape [${wantedShape}], as this run trains it, got [${found}]`];
  });
}

/** The first few names. */
function list(names: readonly string[]): string {
  const shown = names.slice(0, SHOWN).join(", ");
  return names.length > SHOWN ? `${shown} and ${names.length - SHOWN} more` : shown;
}

const SHOWN = 6;
