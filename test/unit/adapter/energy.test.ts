import * as fc from "fast-check";
import { expect, it } from "vitest";
import { energy } from "../../../src/adapter/energy.ts";
import { factorsOf, federations } from "../../support/federations.ts";

it("the energy of a range of components equals the squared norm of their explicitly formed product", () => {
  fc.assert(
    fc.property(federations, fc.nat(), ({ context: { layout, global } }, seed) => {
      const from = seed % layout.r;
      let expected = 0;
      for (const { a, b } of factorsOf(global, layout).values()) {
        for (const row of b) {
          for (let column = 0; column < (a[0]?.length ?? 0); column++) {
            let value = 0;
            for (let j = from; j < layout.r; j++) value += (row[j] ?? 0) * (a[j]?.[column] ?? 0);
            expected += (layout.scale * value) ** 2;
          }
        }
      }
      const scale = Math.max(1, ...global.rows.map(Math.abs)) ** 4 * layout.width;
      expect(Math.abs(energy(layout, global.rows, from, layout.r) - expected)).toBeLessThan(1e-9 * scale);
    }),
  );
});
