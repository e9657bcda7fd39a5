import { clientsOf, layoutOf, roundContext, updateOf } from "../../src/testing/index.ts";

/** One module of 2 → 2 and one dense value: a row is [a0, a1, b0, b1]. A quarter of the examples train the second row. */
export const layout = layoutOf({ tiers: [1, 2], modules: [{ name: "m", in: 2, out: 2 }], dense: [{ name: "head", shape: [1] }] });
const clients = clientsOf([
  { id: "small", size: 30, r: 1 },
  { id: "large", size: 10, r: 2 },
]);
export const context = roundContext(layout, clients, {
  global: { r: 2, rows: Float32Array.of(1, 1, 0, 0, 2, 2, 0, 0), dense: Float32Array.of(100) },
  fresh: () => Float32Array.of(9, 9, 0, 0, 9, 9, 0, 0),
});
export const small = updateOf(context, clients[0]!, { r: 1, rows: Float32Array.of(4, 0, 8, 1), dense: Float32Array.of(2) });
export const large = updateOf(context, clients[1]!, { r: 2, rows: Float32Array.of(0, 8, 0, 1, 3, 3, 3, 3), dense: Float32Array.of(-2) });
