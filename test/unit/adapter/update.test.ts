import { describe, expect, it } from "vitest";
import { createLayout } from "../../../src/adapter/layout.ts";
import { LARGEST_DELTA, requireWithinBounds, type UpdateClaim, validateUpdate } from "../../../src/adapter/update.ts";
import { encodingOf } from "../../../src/adapter/encoded-adapter.ts";
import { RefusedError } from "../../../src/errors.ts";
import { asFloat32 } from "../../../src/tensor/encoded.ts";
import { inTurns } from "../../../src/base/turns.ts";

const layout = createLayout(
  { r: 2, tiers: [1, 2], scale: 0.1 },
  { modules: [{ name: "m", in: 2, out: 2 }], dense: [{ name: "head", shape: [2] }] },
);
const floats = (...values: number[]) => asFloat32(Float32Array.from(values));
const withoutHead = { ...layout, dense: [], denseSize: 0 };
const claim: UpdateClaim = {
  layout,
  client: { id: "c07", r: 1, n: 12 },
  reply: { client_id: "c07", r: 1, scale: 0.1, n: 12 },
  payload: { rows: floats(1, 2, 3, -LARGEST_DELTA), dense: floats(5, 6) },
};
/** What a claim has to pass, unless what sums its values looks at them. */
const validate = (changes: Partial<UpdateClaim> = {}) => {
  const delta = validateUpdate({ ...claim, ...changes });
  void inTurns(requireWithinBounds(claim.client.id, delta));
  return delta;
};

describe("validateUpdate and requireWithinBounds", () => {
  it("gives the delta at the client's rank, the values as they came", () => {
    const delta = validate();
    expect(delta).toEqual({ r: 1, rows: Float32Array.of(1, 2, 3, -64), dense: Float32Array.of(5, 6) });
    expect(encodingOf(delta).rows).toBe(claim.payload.rows);
  });

  it("takes a scale that text or another language has rounded", () => {
    expect(validate({ reply: { ...claim.reply, scale: 0.1 + 1e-14 } }).r).toBe(1);
  });

  it("takes no dense values from a model that trains none", () => {
    expect(validate({ layout: withoutHead, payload: { rows: floats(0, 0, 0, 0) } }).dense).toHaveLength(0);
  });

  const reply = (change: Partial<UpdateClaim["reply"]>): Partial<UpdateClaim> => ({ reply: { ...claim.reply, ...change } });
  const payload = (change: UpdateClaim["payload"]): Partial<UpdateClaim> => ({ payload: { ...claim.payload, ...change } });
  it.each<readonly [string, Partial<UpdateClaim>, string]>([
    ["another client's", reply({ client_id: "c08" }), "client_id: expected c07, got c08"],
    ["of another rank", reply({ r: 2 }), "rank r: expected 1, got 2"],
    ["of another number of examples", reply({ n: 120 }), "n: expected 12, got 120"],
    ["of another scale", reply({ scale: 0.1 + 1e-12 }), "scale: expected 0.1, got 0.100000000001"],
    ["of a scale that is no number", reply({ scale: Number.NaN }), "scale: expected 0.1, got NaN"],
    ["with too few rows", payload({ rows: floats(0, 0, 0) }), "rows: expected 4 values, got 3"],
    ["with the rows of a higher rank", payload({ rows: floats(0, 0, 0, 0, 0, 0, 0, 0) }), "rows: expected 4 values, got 8"],
    ["without rows", { payload: { dense: floats(0, 0) } }, "rows: expected 4 values, got 0"],
    ["without the head", { payload: { rows: floats(0, 0, 0, 0) } }, "dense: expected 2 values, got 0"],
    ["with a head that is not trained", { layout: withoutHead }, "dense: expected 0 values, got 2"],
    ["with NaN", payload({ rows: floats(0, 0, Number.NaN, 0) }), "rows[2]: expected a finite number of at most 64 in size, got NaN"],
    [
      "with infinity",
      payload({ dense: floats(0, Number.POSITIVE_INFINITY) }),
      "dense[1]: expected a finite number of at most 64 in size, got Infinity",
    ],
    ["that has diverged", payload({ rows: floats(65, 0, 0, 0) }), "rows[0]: expected a finite number of at most 64 in size, got 65"],
  ])("refuses an update %s", (_, change, message) => {
    expect(() => validate(change)).toThrow(RefusedError);
    expect(() => validate(change)).toThrow(`the update of client c07: ${message}`);
  });
});
