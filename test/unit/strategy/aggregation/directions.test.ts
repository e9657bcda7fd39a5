import { expect, it } from "vitest";
import { createLayout } from "../../../../src/adapter/layout.ts";
import { createRng, deriveSeed } from "../../../../src/base/rng.ts";
import { magnitudesOfEach, unitRows } from "../../../../src/strategy/aggregation/directions.ts";

it("magnitudes of short and long modules are the products of both inner products", () => {
  const modules = [
    { name: "short", in: 7, out: 6 },
    { name: "long", in: 300, out: 65 },
  ];
  const layout = createLayout({ r: 5, tiers: [5], scale: 2 }, { modules, dense: [] });
  const rng = createRng(deriveSeed("0".repeat(32), "directions"));
  const random = (r: number) => Float32Array.from({ length: r * layout.width }, () => 2 * rng.next() - 1);
  const [directions, rows] = [unitRows(random(5), layout), random(3)];
  const inner = (k: number, j: number, from: number, length: number) =>
    Array.from({ length }, (_, at) => directions[k * layout.width + from + at]! * rows[j * layout.width + from + at]!).reduce(
      (x, y) => x + y,
    );
  const expected = layout.modules.flatMap(({ offset, in: a, out: b }) =>
    [0, 1, 2, 3, 4].flatMap((k) => [0, 1, 2].map((j) => inner(k, j, offset, a) * inner(k, j, offset + a, b))),
  );
  const magnitudes = magnitudesOfEach(directions, rows, layout);
  expect(magnitudes).toHaveLength(2 * 5 * 3);
  for (const [at, value] of expected.entries()) expect(magnitudes[at]).toBeCloseTo(value, 12);
});
