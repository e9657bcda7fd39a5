import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import * as fc from "fast-check";
import { describe, expect, it, onTestFinished } from "vitest";
import { createLayout } from "../../../../src/adapter/layout.ts";
import { federate, fedRoRA, flexLora, listRanks, roundRobinSelection, verifyRun, withUpdateBound } from "../../../../src/index.ts";
import type { Aggregate, RankedClient, RoundContext, Update } from "../../../../src/strategy/strategy.ts";
import { clientsOf, roundContext, tinyLauncher, tinyRun, updateOf, zeroAdapter } from "../../../../src/testing/index.ts";
import { aggregate, bytesOf, difference, type Federation, moderateFederations, productsOf } from "../../../support/federations.ts";

const layout = createLayout({ r: 2, tiers: [1, 2], scale: 2 }, { modules: [{ name: "m", in: 2, out: 2 }], dense: [] });
const clients = clientsOf([
  { r: 2, size: 3 },
  { r: 2, size: 1 },
]);
const [first, second] = clients as [RankedClient, RankedClient];
const global = { ...zeroAdapter(layout, 2), rows: Float32Array.of(9, 9, 0, 0, 8, 7, 0, 0) };
const context = roundContext(layout, clients, { global });
const stranger: RankedClient = { ...first, id: "c7" };

/** The update of a client that ends with these rows, whatever it received. */
function endingWith(context: RoundContext, client: RankedClient, ...rows: readonly number[]): Update {
  const update = updateOf(context, client, zeroAdapter(context.layout, client.r));
  return { ...update, delta: { ...update.delta, rows: Float32Array.from(rows, (value, at) => value - update.received.rows[at]!) } };
}

const magnitudes = ({ state }: Aggregate, { id }: RankedClient) => rounded(state![`magnitudes/${id}`]!);
const startOf = (client: RankedClient, { global, state = {} }: Aggregate, on = layout) =>
  fedRoRA().distributeTo!(client, { global, layout: on, state });
/** Signs are those of the SVD's vectors, so only products and sizes are known by hand. */
const sizes = (values: Float32Array) => rounded(values).map(Math.abs);
const rounded = (values: Iterable<number>) => Array.from(values, (value) => Number(value.toFixed(5)) + 0);
const products = (adapter: Parameters<typeof productsOf>[0]) => rounded(productsOf(adapter, layout)[0]!.flat());
const [two, three, eight] = [2, 3, 8].map((value) => Number(Math.sqrt(value).toFixed(5)));

describe("by hand, ¾·4·e1·e1ᵀ + ¼·8·e2·e2ᵀ has the singular values 3 and 2, and", () => {
  const next = aggregate(fedRoRA(), context, [
    endingWith(context, first, 2, 0, 2, 0, 0, 0, 0, 0),
    endingWith(context, second, 0, 2, 0, 4, 0, 0, 0, 0),
  ]);

  it("each client's magnitudes are what it has of the two directions itself", () => {
    expect([magnitudes(next, first), magnitudes(next, second)]).toEqual([
      [4, 0],
      [0, 8],
    ]);
  });

  it("a client gets the directions of which it has most, however small they are in the mean", () => {
    expect(sizes(startOf({ ...first, r: 1 }, next).rows)).toEqual([2, 0, 2, 0]);
    expect(sizes(startOf({ ...second, r: 1 }, next).rows)).toEqual([0, eight, 0, eight]);
    expect(products(startOf(second, next))).toEqual([0, 0, 0, 16]);
  });

  it("a direction of which a client has nothing keeps its A, with B = 0", () => {
    expect(sizes(startOf(first, next).rows)).toEqual([2, 0, 2, 0, 0, two, 0, 0]);
  });

  it("a client that has not reported gets the largest singular values", () => {
    expect(sizes(startOf({ ...stranger, r: 1 }, next).rows)).toEqual([three, 0, three, 0]);
    expect(startOf(stranger, next)).toEqual(next.global);
  });

  it("the global adapter is FlexLoRA's", () => {
    const updates = [endingWith(context, first, 2, 0, 2, 0, 1, 3, 1, 0), endingWith(context, second, 0, 2, 0, 4, 5, 0, 1, 1)];
    const [ours, theirs] = [fedRoRA(), flexLora()].map((aggregation) => aggregate(aggregation, context, updates).global);
    expect(bytesOf(ours!)).toEqual(bytesOf(theirs!));
  });

  it("a round without reports keeps magnitudes to the byte", () => {
    const idle = aggregate(fedRoRA(), { ...context, global: next.global, state: next.state! }, []);
    expect(idle.state).toEqual(next.state);
  });

  it("a client that was not in the next round keeps what it had, along the new directions", () => {
    const after = { ...context, global: next.global, state: next.state! };
    // 3·u·uᵀ + w·wᵀ with u, w = (e1 ± e2)/√2: each of them has half of e2·e2ᵀ.
    const turned = aggregate(fedRoRA(), after, [endingWith(after, first, 1.5, 1.5, 1, 1, 0.5, -0.5, 1, -1)]);
    expect([magnitudes(turned, first), magnitudes(turned, second)]).toEqual([
      [3, 1],
      [4, 4],
    ]);
  });
});

it("by hand, a magnitude has a sign: ¾·4·e1·e1ᵀ − ¼·4·e1·e1ᵀ + ¼·12·e2·e2ᵀ is 3·e2·e2ᵀ + 2·e1·e1ᵀ, of which a client has 12 and −4", () => {
  const next = aggregate(fedRoRA(), context, [
    endingWith(context, first, 2, 0, 2, 0, 0, 0, 0, 0),
    endingWith(context, second, -2, 0, 2, 0, 0, 4, 0, 3),
  ]);
  expect([magnitudes(next, first), magnitudes(next, second)]).toEqual([
    [0, 4],
    [12, -4],
  ]);
  expect(products(startOf(second, next))).toEqual([-8, 0, 0, 24]);
  expect(products(startOf({ ...first, r: 1 }, next))).toEqual([8, 0, 0, 0]);
});

it("a direction that the mean product lacks comes last, and keeps its A with B = 0", () => {
  const next = aggregate(fedRoRA(), context, [endingWith(context, first, 0, 2, 0, 4, 0, 0, 0, 0)]);
  expect([magnitudes(next, first), sizes(startOf(first, next).rows)]).toEqual([
    [8, 0],
    [0, eight, 0, eight, 8, 7, 0, 0],
  ]);
});

describe("laws of FedRoRA:", () => {
  const run = ({ context, updates }: Federation) => aggregate(fedRoRA(), context, updates);

  it("a single client gets the SVD of its own product back, as FlexLoRA gives it", () => {
    fc.assert(
      fc.property(moderateFederations, ({ context, updates: [update] }) => {
        const next = run({ context, updates: [update!] });
        const client = context.clients[0]!;
        const [own, theirs] = [startOf(client, next, context.layout), flexLora().distribute(next.global, context.layout, client.r)];
        expect(difference([[...own.rows]], [[...theirs.rows]])).toBeLessThan(1e-5);
      }),
    );
  });

  it("clients with the same product get it back, with the magnitudes that the mean has", () => {
    fc.assert(
      fc.property(moderateFederations, (federation) => {
        const { context, updates } = atLargestRank(federation);
        const next = run({ context, updates });
        for (const client of context.clients) {
          const given = productsOf(startOf(client, next, context.layout), context.layout);
          productsOf(next.global, context.layout).forEach((expected, m) => expect(difference(given[m]!, expected)).toBeLessThan(1e-5));
        }
      }),
    );
  });

  it("the mean of the clients' magnitudes is the singular values of the mean product", () => {
    fc.assert(
      fc.property(moderateFederations, (federation) => {
        const { context, updates } = federation;
        const { r, width, modules } = context.layout;
        const { global, state } = run(federation);
        const total = updates.reduce((sum, { n }) => sum + n, 0);
        for (const [m, { offset, in: a, out: b }] of modules.entries()) {
          const norm = (from: number, length: number) => Math.hypot(...global.rows.subarray(from, from + length));
          const values = Array.from({ length: r }, (_, k) => norm(k * width + offset, a) * norm(k * width + offset + a, b));
          const mean = values.map((_, k) =>
            updates.reduce((sum, { clientId, n }) => sum + (n / total) * state![`magnitudes/${clientId}`]![m * r + k]!, 0),
          );
          expect(difference([mean], [values])).toBeLessThan(1e-5);
        }
      }),
    );
  });
});

/** All clients end with the first one's components, at rank R. */
function atLargestRank({ context, updates }: Federation): Federation {
  const { layout } = context;
  const [{ received, delta }] = updates as [Update];
  const rows = new Float32Array(layout.r * layout.width);
  rows.set(received.rows.map((value, at) => value + delta.rows[at]!));
  const all = context.clients.map((client) => ({ ...client, r: layout.r }));
  const same = { ...context, clients: all };
  return { context: same, updates: all.map((client) => endingWith(same, client, ...rows)) };
}

it("in a run clients of one rank start differently once they have reported, and verify recomputes every round from its updates", async () => {
  const runsDir = mkdtempSync(path.join(tmpdir(), "prelort-fedrora-"));
  onTestFinished(() => rmSync(runsDir, { recursive: true }));
  const starts = new Map<string, string>();
  const launcher = tinyLauncher({
    fit({ clientId, round, r, received, train }) {
      if (r === 2) starts.set(`${round}/${clientId}`, bytesOf(received).rows);
      return train();
    },
  });
  const strategy = {
    aggregation: withUpdateBound(fedRoRA(), { factor: 50 }),
    selection: roundRobinSelection({ fraction: 0.5 }),
    rankAssignment: listRanks([4, 2, 2, 2, 2, 2, 2, 2]),
  };
  const data = { path: "prelort/testing", label: "label", evalExamples: 64, clients: 8, clientEvalExamples: 8 };
  const run = { name: "run", rounds: 4, recordUpdates: true, lora: { r: 4, tiers: [2, 4] } };
  const options = tinyRun({ ...run, runsDir, strategy, data, launcher });
  const { directory } = await federate(options).result;
  const distinct = (round: number) => new Set([...starts].filter(([key]) => key.startsWith(`${round}/`)).map(([, rows]) => rows)).size;
  expect([1, 2, 3, 4].map(distinct)).toEqual([1, 1, 3, 4]);
  const verified = await verifyRun(directory);
  expect(verified.map(({ problems }) => problems)).toEqual([[], [], [], [], []]);
});
