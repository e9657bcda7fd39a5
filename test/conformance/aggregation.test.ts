import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Adapter } from "../../src/adapter/adapter.ts";
import { RefusedError } from "../../src/errors.ts";
import { fedPLoRA } from "../../src/strategy/aggregation/fed-plora.ts";
import { fedRoRA } from "../../src/strategy/aggregation/fedrora.ts";
import { fedSvd } from "../../src/strategy/aggregation/fedsvd.ts";
import { ffaLora } from "../../src/strategy/aggregation/ffa-lora.ts";
import { flexLora } from "../../src/strategy/aggregation/flexlora.ts";
import { fLoRA } from "../../src/strategy/aggregation/flora.ts";
import { hetLora } from "../../src/strategy/aggregation/hetlora.ts";
import { hLora } from "../../src/strategy/aggregation/hlora.ts";
import { productDeltas } from "../../src/strategy/aggregation/product-deltas.ts";
import { raFLoRA } from "../../src/strategy/aggregation/raflora.ts";
import { randomComponents } from "../../src/strategy/aggregation/random-components.ts";
import { segmentWise } from "../../src/strategy/aggregation/segment-wise.ts";
import { withUpdateBound } from "../../src/strategy/aggregation/update-bound.ts";
import { zeroPadDeltas, zeroPadWeights } from "../../src/strategy/aggregation/zero-pad.ts";
import type { Update } from "../../src/strategy/strategy.ts";
import { createRng, deriveSeed } from "../../src/base/rng.ts";
import { encodeState } from "../../src/records/round-files.ts";
import { aggregateAny, bytesOf, federationOf, federations } from "../support/federations.ts";
import { updateOf, zeroAdapter } from "../../src/testing/index.ts";

/** `keeps`: a round in which no client takes a step does not change a byte, since deltas are averaged. */
const aggregations = [
  { name: "segment-wise by examples", aggregation: segmentWise(), keeps: true },
  { name: "segment-wise, uniform", aggregation: segmentWise({ weights: "uniform" }), keeps: true },
  { name: "zero-padding of deltas", aggregation: zeroPadDeltas(), keeps: true },
  { name: "zero-padding of weights", aggregation: zeroPadWeights(), keeps: false },
  { name: "HetLoRA", aggregation: hetLora(), keeps: false },
  { name: "FFA-LoRA", aggregation: ffaLora(), keeps: true },
  { name: "FlexLoRA", aggregation: flexLora(), keeps: false },
  { name: "HLoRA", aggregation: hLora(), keeps: false },
  { name: "raFLoRA", aggregation: raFLoRA(), keeps: false },
  { name: "FLoRA", aggregation: fLoRA(), keeps: false },
  { name: "FLoRA, increments of rank 2", aggregation: fLoRA({ incrementRank: 2 }), keeps: false },
  { name: "FedRoRA", aggregation: fedRoRA(), keeps: false },
  { name: "FedSVD", aggregation: fedSvd(), keeps: false },
  { name: "Fed-PLoRA", aggregation: fedPLoRA(), keeps: false },
  { name: "random components", aggregation: randomComponents(), keeps: false },
  { name: "product deltas", aggregation: productDeltas(), keeps: false },
  { name: "segment-wise, three contributors or none", aggregation: segmentWise({ minContributors: 3 }), keeps: true },
  { name: "segment-wise, clipped", aggregation: segmentWise({ robust: { name: "clip", norm: 1.5 } }), keeps: true },
  { name: "segment-wise, median", aggregation: segmentWise({ robust: { name: "median" } }), keeps: true },
  { name: "segment-wise, trimmed mean", aggregation: segmentWise({ robust: { name: "trimmed-mean", trim: 0.3 } }), keeps: true },
  { name: "segment-wise, multi-Krum", aggregation: segmentWise({ robust: { name: "multi-krum", malicious: 1 } }), keeps: true },
  { name: "an update bound over the median", aggregation: withUpdateBound(segmentWise({ robust: { name: "median" } })), keeps: true },
  { name: "an update bound over FlexLoRA", aggregation: withUpdateBound(flexLora()), keeps: false },
];

describe.each(aggregations)("$name", ({ aggregation, keeps }) => {
  it("gives the same bytes in whatever order updates arrive", async () => {
    const inAnyOrder = federations.chain((federation) =>
      fc.tuple(fc.constant(federation), fc.shuffledSubarray([...federation.updates], { minLength: federation.updates.length })),
    );
    await fc.assert(
      fc.asyncProperty(inAnyOrder, async ([{ context, updates }, shuffled]) => {
        const [expected, received] = [
          await aggregateAny(aggregation, context, updates),
          await aggregateAny(aggregation, context, shuffled),
        ];
        expect(bytesOf(received.global)).toEqual(bytesOf(expected.global));
        expect(received.coverage).toEqual(expected.coverage);
        expect(encodeState(received.state ?? {})).toEqual(encodeState(expected.state ?? {}));
      }),
    );
  });

  it("gives the same bytes in any order even if large updates cancel, so that the rest depends most on rounding", async () => {
    await fc.assert(
      fc.asyncProperty(federations, fc.nat(), async ({ context: { layout } }, seed) => {
        const members = Array.from({ length: 7 }, () => ({ r: layout.r, size: 3 }));
        const { context, updates } = federationOf(layout, members, seed);
        const global = zeroAdapter(layout, layout.r);
        const cancelling = updates.map((update, index) => {
          const partner = updates[index - 3]?.delta ?? update.delta;
          return withDelta(update, index < 3 ? update.delta : scaled(partner, index < 6 ? -1 : 1e-10));
        });
        const forth = await aggregateAny(aggregation, { ...context, global }, cancelling);
        const back = await aggregateAny(aggregation, { ...context, global }, cancelling.toReversed());
        expect(bytesOf(back.global)).toEqual(bytesOf(forth.global));
        const shuffled = createRng(deriveSeed(seed)).shuffle(cancelling);
        expect(bytesOf((await aggregateAny(aggregation, { ...context, global }, shuffled)).global)).toEqual(bytesOf(forth.global));
      }),
    );
  });

  it("changes nothing when nobody reports", async () => {
    await fc.assert(
      fc.asyncProperty(federations, async ({ context }) => {
        const { global, coverage } = await aggregateAny(aggregation, context, []);
        expect(bytesOf(global)).toEqual(bytesOf(context.global));
        expect(coverage).toEqual(context.layout.tiers.map((r) => ({ r, clients: 0, examples: 0 })));
      }),
    );
  });

  if (keeps) {
    it("changes nothing when clients take no step", async () => {
      await fc.assert(
        fc.asyncProperty(federations, async ({ context }) => {
          const idle = context.clients.map((client) => updateOf(context, client, zeroAdapter(context.layout, client.r)));
          expect(bytesOf((await aggregateAny(aggregation, context, idle)).global)).toEqual(bytesOf(context.global));
        }),
      );
    });
  }

  it("returns memory of its own", async () => {
    await fc.assert(
      fc.asyncProperty(federations, async ({ context, updates }) => {
        const before = [context.global, ...updates.map(({ delta }) => delta)].map(bytesOf);
        const { global } = await aggregateAny(aggregation, context, updates);
        global.rows.fill(7);
        global.dense.fill(7);
        expect([context.global, ...updates.map(({ delta }) => delta)].map(bytesOf)).toEqual(before);
      }),
    );
  });

  it("counts for each segment the clients that trained it, and their examples", async () => {
    await fc.assert(
      fc.asyncProperty(federations, async ({ context, updates }) => {
        const expected = context.layout.tiers.map((tier) => {
          const trained = updates.filter(({ r }) => r >= tier);
          return { r: tier, clients: trained.length, examples: trained.reduce((sum, { n }) => sum + n, 0) };
        });
        expect((await aggregateAny(aggregation, context, updates)).coverage).toEqual(expected);
      }),
    );
  });

  it("gives every tier an adapter of its rank, and truncating it gives the adapter of a lower tier", () => {
    fc.assert(
      fc.property(federations, ({ context: { layout, global } }) => {
        for (const [index, r] of layout.tiers.entries()) {
          const given = aggregation.distribute(global, layout, r);
          expect([given.r, given.rows.length, given.dense.length]).toEqual([r, r * layout.width, layout.denseSize]);
          for (const lower of layout.tiers.slice(0, index)) {
            expect(bytesOf(aggregation.distribute(given, layout, lower))).toEqual(bytesOf(aggregation.distribute(global, layout, lower)));
          }
        }
      }),
    );
  });

  if (aggregation.distributeTo) {
    it("gives each client an adapter of its rank and of finite values, before and after it has reported", async () => {
      await fc.assert(
        fc.asyncProperty(federations, async ({ context, updates }) => {
          const { layout, clients } = context;
          const { global, state = {} } = await aggregateAny(aggregation, context, updates.slice(1));
          for (const client of clients) {
            const given = aggregation.distributeTo!(client, { global, layout, state });
            expect([given.r, given.rows.length, given.dense]).toEqual([client.r, client.r * layout.width, global.dense]);
            expect(given.rows.every(Number.isFinite)).toBe(true);
          }
        }),
      );
    });
  }

  const faults: readonly (readonly [string, (update: Update) => Update])[] = [
    ["a client that is not of this round", (update) => ({ ...update, clientId: "stranger" })],
    ["another rank than the client's", (update) => ({ ...update, r: update.r + 1 })],
    ["another number of examples", (update) => ({ ...update, n: update.n + 1 })],
    ["one row too few, which would broadcast", (update) => withDelta(update, { rows: update.delta.rows.slice(0, -1) })],
    ["one dense value too many", (update) => withDelta(update, { dense: Float32Array.of(...update.delta.dense, 0) })],
    [
      "a value that is not a number",
      (update) => withDelta(update, { rows: update.delta.rows.map((value, index) => (index === 3 ? Number.NaN : value)) }),
    ],
    ["a value beyond all bounds", (update) => withDelta(update, { rows: update.delta.rows.fill(1e30, -1) })],
  ];
  it.each(faults)("does not change the sum when it refuses %s", async (_, spoil) => {
    await fc.assert(
      fc.asyncProperty(federations, fc.nat(), async ({ context, updates }, draw) => {
        const accumulator = aggregation.begin(context);
        const faulty = draw % updates.length;
        for (const [index, update] of updates.entries()) {
          if (index === faulty) expect(() => accumulator.add(spoil(copyOf(update)))).toThrow(RefusedError);
          void accumulator.add(update);
        }
        expect(bytesOf((await accumulator.finish()).global)).toEqual(bytesOf((await aggregateAny(aggregation, context, updates)).global));
      }),
      { numRuns: 30 },
    );
  });

  it("refuses a second update from a client, by its id", async () => {
    await fc.assert(
      fc.asyncProperty(federations, async ({ context, updates }) => {
        const accumulator = aggregation.begin(context);
        for (const update of updates) void accumulator.add(update);
        for (const update of updates) expect(() => accumulator.add(update)).toThrow(new RegExp(`\\b${update.clientId}\\b`));
        expect(bytesOf((await accumulator.finish()).global)).toEqual(bytesOf((await aggregateAny(aggregation, context, updates)).global));
      }),
      { numRuns: 30 },
    );
  });
});

function copyOf(update: Update): Update {
  return withDelta(update, { rows: update.delta.rows.slice(), dense: update.delta.dense.slice() });
}

function withDelta(update: Update, values: Partial<Update["delta"]>): Update {
  return { ...update, delta: { ...update.delta, ...values } };
}

function scaled({ r, rows, dense }: Adapter, factor: number): Adapter {
  return { r, rows: rows.map((value) => factor * value), dense: dense.map((value) => factor * value) };
}
