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
/** The checks of a claim, for an aggregation that does not check the values itself. */
const validate = (changes: Partial<UpdateClaim> = {}) => {
  const delta = validateUpdate({ ...claim, ...changes });
  void inTurns(requireWithinBounds(claim.client.id, delta));
  return delta;
};

describe("validateUpdate and requireWithinBounds", () => {
  it("return the delta at the client's rank, in its wire encoding", () => {
    const delta = validate();
    expect(delta).toEqual({ r: 1, rows: Float32Array.of(1, 2, 3, -64), dense: Float32Array.of(5, 6) });
    expect(encodingOf(delta).rows).toBe(claim.payload.rows);
  });

  it("accept a scale rounded by text or another language", () => {
    expect(validate({ reply: { ...claim.reply, scale: 0.1 + 1e-14 } }).r).toBe(1);
  });

  it("accept no dense values if the model trains none", () => {
    expect(validate({ layout: withoutHead, payload: { rows: floats(0, 0, 0, 0) } }).dense).toHaveLength(0);
  });

  const reply = (change: Partial<UpdateClaim["reply"]>): Partial<UpdateClaim> => ({ reply: { ...claim.reply, ...change } });
  const payload = (change: UpdateClaim["payload"]): Partial<UpdateClaim> => ({ payload: { ...claim.payload, ...change } });
  it.each<readonly [string, Partial<UpdateClaim>, subject: string, expected: string, received: string]>([
    ["from another client", reply({ client_id: "c08" }), "client_id", "c07", "c08"],
    ["of another rank", reply({ r: 2 }), "rank r", "1", "2"],
    ["with another number of examples", reply({ n: 120 }), "n", "12", "120"],
    ["with another scale", reply({ scale: 0.1 + 1e-12 }), "scale", "0.1", `${0.1 + 1e-12}`],
    ["with NaN as its scale", reply({ scale: Number.NaN }), "scale", "0.1", "NaN"],
    ["with too few rows", payload({ rows: floats(0, 0, 0) }), "rows", "4 values", "3"],
    ["with the rows of a higher rank", payload({ rows: floats(0, 0, 0, 0, 0, 0, 0, 0) }), "rows", "4 values", "8"],
    ["without rows", { payload: { dense: floats(0, 0) } }, "rows", "4 values", "0"],
    ["without the head", { payload: { rows: floats(0, 0, 0, 0) } }, "dense", "2 values", "0"],
    ["with a head that is not trained", { layout: withoutHead }, "dense", "0 values", "2"],
    ["with NaN", payload({ rows: floats(0, 0, Number.NaN, 0) }), "rows[2]", "64", "NaN"],
    ["with infinity", payload({ dense: floats(0, Number.POSITIVE_INFINITY) }), "dense[1]", "64", "Infinity"],
    ["that has diverged", payload({ rows: floats(65, 0, 0, 0) }), "rows[0]", "64", "65"],
  ])("refuse an update %s", (_, change, subject, expected, received) => {
    expect(() => validate(change)).toThrow(RefusedError);
    expect(() => validate(change)).toThrow(expect.objectContaining({ expected: expect.stringContaining(expected), received }));
    expect(() => validate(change)).toThrow(`client c07: ${subject}: `);
  });
});
