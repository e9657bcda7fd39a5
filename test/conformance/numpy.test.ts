import { execFileSync } from "node:child_process";
import path from "node:path";
import * as fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import type { Adapter } from "../../src/adapter/adapter.ts";
import { ffaLora } from "../../src/strategy/aggregation/ffa-lora.ts";
import { fedExLora } from "../../src/strategy/aggregation/fedex-lora.ts";
import { fedIt } from "../../src/strategy/aggregation/fedit.ts";
import { fedRoRA } from "../../src/strategy/aggregation/fedrora.ts";
import { fedSvd } from "../../src/strategy/aggregation/fedsvd.ts";
import { flexLora } from "../../src/strategy/aggregation/flexlora.ts";
import { fLoRA } from "../../src/strategy/aggregation/flora.ts";
import { hetLora } from "../../src/strategy/aggregation/hetlora.ts";
import { hLora } from "../../src/strategy/aggregation/hlora.ts";
import { productDeltas } from "../../src/strategy/aggregation/product-deltas.ts";
import { raFLoRA } from "../../src/strategy/aggregation/raflora.ts";
import { segmentWise } from "../../src/strategy/aggregation/segment-wise.ts";
import { zeroPadDeltas, zeroPadWeights } from "../../src/strategy/aggregation/zero-pad.ts";
import type { Aggregation, Update } from "../../src/strategy/strategy.ts";
import { environmentPython } from "../../src/installation.ts";
import {
  aggregate,
  difference,
  factorsOf,
  type Federation,
  federationOf,
  type Grid,
  mergedOf,
  moderateFederations,
  productsOf,
} from "../support/federations.ts";
import { randomAdapter } from "../../src/testing/index.ts";

/*
 * Every aggregation against a second implementation, numpy_reference.py, on random layouts, ranks and weights. Adding
 * a method is a line here and a function there.
 */

type Run = (federation: Federation) => Adapter;
interface Method {
  readonly name: string;
  readonly run: Run;
  /** Represents the global adapter at every tier. */
  readonly present?: Aggregation["present"];
}

const methods: readonly Method[] = [
  { name: "segment-wise", run: running(segmentWise()) },
  { name: "zero-pad-deltas", run: running(zeroPadDeltas()) },
  { name: "zero-pad-weights", run: running(zeroPadWeights()) },
  { name: "hetlora", run: running(hetLora()) },
  { name: "fedit", run: (federation) => running(fedIt())(ofThoseWhoReport(federation)) },
  { name: "ffa-lora", run: (federation) => running(ffaLora())(changing(federation, ({ isB, value }) => (isB ? value : 0))) },
  { name: "flexlora", run: running(flexLora()) },
  { name: "hlora", run: running(hLora()) },
  { name: "fedrora", run: running(fedRoRA()) },
  { name: "raflora", run: running(raFLoRA()) },
  { name: "flora", run: running(fLoRA()), present: fLoRA().present },
  { name: "fedex-lora", run: (federation) => presented(fedExLora(), ofThoseWhoReport(federation)) },
  { name: "fedsvd", run: (federation) => running(fedSvd())(changing(federation, ({ isB, value }) => (isB ? value : 0))) },
  { name: "product-deltas", run: running(productDeltas()) },
];

/** Some or all clients of the round report; in about half of the federations all have one rank. */
const drawn = fc.tuple(moderateFederations, fc.boolean(), fc.nat()).chain(([{ context }, isOfOneRank, seed]) => {
  const members = context.clients.map(({ r, size }) => ({ r: isOfOneRank ? context.layout.r : r, size }));
  const federation = federationOf(context.layout, members, seed, randomAdapter);
  return fc.subarray([...federation.updates], { minLength: 1 }).map((updates): Federation => ({ ...federation, updates }));
});
const federations = fc.sample(drawn, { numRuns: 60, seed: 3 });

interface Product {
  readonly product: Grid;
  readonly tiers: readonly (Grid | null)[];
  /** With FedRoRA: what each client that reported starts its next fit from. */
  readonly starts?: readonly (Grid | null)[];
}
type Module = { readonly A: Grid; readonly B: Grid } | Product;
type Answer = { readonly modules: readonly Module[]; readonly dense: readonly number[] };

/** By method and federation; null where the method does not apply. */
let reference: readonly (readonly (Answer | null)[])[] = [];
beforeAll(() => {
  const request = { methods: methods.map(({ name }) => name), federations: federations.map(described) };
  const script = path.join(import.meta.dirname, "numpy_reference.py");
  const env = { ...process.env, OMP_NUM_THREADS: "1" };
  const answer = execFileSync(environmentPython(), [script], { encoding: "utf8", input: JSON.stringify(request), maxBuffer: 2 ** 28, env });
  reference = JSON.parse(answer) as typeof reference;
});

describe("a second implementation, in NumPy", () => {
  it.each(methods.map(({ name }) => name))("agrees to 1e-6 with %s", (name) => {
    const found = deviations(name);
    expect(found.length).toBeGreaterThan(20);
    expect(Math.max(...found)).toBeLessThan(1e-6);
  });

  it("agrees to 1e-6 with what FedRoRA gives each client after it has reported", () => {
    const found = federations.flatMap((federation, index) => startDeviations(federation, reference[indexOf("fedrora")]![index]!));
    expect(found.length).toBeGreaterThan(100);
    expect(Math.max(...found)).toBeLessThan(1e-6);
  });

  it("has distinct singular values at nearly all tiers, so that truncated products are compared too", () => {
    const modules = reference.flat().flatMap((answer) => answer?.modules ?? []);
    const tiers = modules.flatMap((module) => ("tiers" in module ? module.tiers : []));
    expect(tiers.filter((tier) => tier !== null).length).toBeGreaterThan(0.9 * tiers.length);
  });
});

describe("the comparison would detect mistakes found in public code:", () => {
  const faults: readonly (readonly [string, string, Run])[] = [
    ["the first client times its share, for the mean (FLoRA's FedIT)", "fedit", firstClientOnly],
    ["all clients at the largest rank (FlexLoRA's release)", "flexlora", (federation) => running(flexLora())(atLargestRank(federation))],
    ["a fixed lora_alpha over mixed ranks", "flexlora", (federation) => running(flexLora())(withFixedAlpha(federation))],
    ["untrained segments set to zero (FediLoRA)", "segment-wise", withoutUntrained],
    [
      "B of the lowest segment alone from the second client on (FediLoRA)",
      "segment-wise",
      (federation) => running(segmentWise())(lowestBOnly(federation)),
    ],
  ];
  it.each(faults)("%s", (_, name, run) => {
    expect(Math.max(...deviations(name, run))).toBeGreaterThan(1e-2);
  });
});

function firstClientOnly({ context: { global }, updates }: Federation): Adapter {
  const [first] = updates as [Update];
  const p = first.n / updates.reduce((sum, { n }) => sum + n, 0);
  const share = (part: "rows" | "dense") => first.received[part].map((value, index) => p * (value + first.delta[part][index]!));
  const rows = global.rows.slice();
  rows.set(share("rows"));
  return { ...global, rows, dense: share("dense") };
}

/** Components that a client did not train count as unchanged. */
function atLargestRank({ context, updates }: Federation): Federation {
  const { layout, global } = context;
  const padded = updates.map((update): Update => {
    const rows = new Float32Array(global.rows.length);
    rows.set(update.delta.rows);
    return { ...update, r: layout.r, received: global, delta: { ...update.delta, r: layout.r, rows } };
  });
  return { context: { ...context, clients: context.clients.map((client) => ({ ...client, r: layout.r })) }, updates: padded };
}

/** Every product is R / r_k times too large. */
function withFixedAlpha(federation: Federation): Federation {
  const { layout, global } = federation.context;
  return changing(federation, ({ isB, value, index, r }) => {
    const received = global.rows[index]!;
    return isB ? (layout.r / r) * (received + value) - received : value;
  });
}

function lowestBOnly(federation: Federation): Federation {
  const { tiers, width } = federation.context.layout;
  return changing(federation, ({ isB, value, index, reporter }) => (isB && reporter > 0 && index >= tiers[0]! * width ? 0 : value));
}

function withoutUntrained(federation: Federation): Adapter {
  const { layout } = federation.context;
  const trained = Math.max(...federation.updates.map(({ r }) => r));
  const adapter = running(segmentWise())(federation);
  return { ...adapter, rows: adapter.rows.map((value, index) => (index < trained * layout.width ? value : 0)) };
}

interface Place {
  readonly value: number;
  /** Index into the rows. */
  readonly index: number;
  readonly isB: boolean;
  /** Index among the clients that report. */
  readonly reporter: number;
  readonly r: number;
}

/** The same federation with changed deltas. */
function changing({ context, updates }: Federation, change: (place: Place) => number): Federation {
  const { modules, width } = context.layout;
  const isB = (column: number) => modules.some(({ offset, in: a, out: b }) => column >= offset + a && column < offset + a + b);
  const changed = updates.map((update, reporter): Update => {
    const { r, delta } = update;
    const rows = delta.rows.map((value, index) => change({ value, index, isB: isB(index % width), reporter, r }));
    return { ...update, delta: { ...delta, rows } };
  });
  return { context, updates: changed };
}

/** FedIT refuses a round in which clients of another rank might report. */
function ofThoseWhoReport({ context, updates }: Federation): Federation {
  const clients = context.clients.filter(({ id }) => updates.some(({ clientId }) => clientId === id));
  return { context: { ...context, clients }, updates };
}

function running(aggregation: Aggregation): Run {
  return ({ context, updates }) => aggregate(aggregation, context, updates).global;
}

/** With what is merged, as one adapter. */
function presented(aggregation: Aggregation, federation: Federation): Adapter {
  return aggregation.present!(running(aggregation)(federation), federation.context.layout);
}

/** Of every module of every client's start. */
function startDeviations({ context, updates }: Federation, { modules }: Answer): number[] {
  const { layout, clients } = context;
  const { global, state = {} } = aggregate(fedRoRA(), context, updates);
  return updates.flatMap(({ clientId }, reporter) => {
    const client = clients.find(({ id }) => id === clientId)!;
    const start = productsOf(fedRoRA().distributeTo!(client, { global, layout, state }), layout);
    return modules.flatMap((module, m) => {
      const expected = "starts" in module ? module.starts?.[reporter] : undefined;
      return expected ? [difference(start[m]!, expected)] : [];
    });
  });
}

/** The largest difference from the reference, for every federation that the method applies to. */
function deviations(name: string, other?: Run): number[] {
  const at = indexOf(name);
  const { run, present = (adapter: Adapter) => adapter } = methods[at]!;
  return federations.flatMap((federation, index) => {
    const answer = reference[at]?.[index];
    if (!answer) return [];
    const { layout } = federation.context;
    const adapter = (other ?? run)(federation);
    const factors = [...factorsOf(adapter, layout).values()];
    const shown = layout.tiers.map((r) => productsOf(present(adapter, layout), layout, r));
    const merged = adapter.merged && productsOf(mergedOf(adapter), layout);
    const byModule = answer.modules.map((expected, module) => {
      const { a, b } = factors[module]!;
      if ("A" in expected) return Math.max(difference(a, expected.A), difference(b, expected.B));
      const tiers = expected.tiers.map((tier, m) => (tier ? difference(shown[m]![module]!, tier) : 0));
      return Math.max(...tiers, merged ? difference(merged[module]!, expected.product) : 0);
    });
    return [Math.max(...byModule, difference([[...adapter.dense]], [answer.dense]))];
  });
}

function indexOf(name: string): number {
  return methods.findIndex((method) => method.name === name);
}

/** A federation as the reference reads it: matrices, module by module. */
function described({ context: { layout, global }, updates }: Federation) {
  const values = (adapter: Adapter) => {
    const factors = [...factorsOf(adapter, layout).values()];
    return { A: factors.map(({ a }) => a), B: factors.map(({ b }) => b), dense: [...adapter.dense] };
  };
  const clients = updates.map(({ r, n, received, delta }) => ({ r, n, received: values(received), delta: values(delta) }));
  return { scale: layout.scale, tiers: layout.tiers, global: values(global), clients };
}
