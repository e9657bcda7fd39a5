import { describe, expect, it, test } from "vitest";
import { readPeftAdapter } from "../../../src/adapter/peft-adapter.ts";
import { toBfloat16 } from "../../../src/tensor/encoded.ts";
import { encodeRaw, encodeSafetensors, type FloatTensor } from "../../../src/tensor/safetensors.ts";

const config = { peft_type: "LORA", r: 2, lora_alpha: 6, bias: "none", use_rslora: false };
const float = (shape: readonly number[], ...values: number[]): FloatTensor => ({ shape, values: Float32Array.from(values) });
const q = {
  "base_model.model.x.q.lora_A.weight": float([2, 3], 1, 2, 3, 4, 5, 6),
  "base_model.model.x.q.lora_B.weight": float([1, 2], 7, 8),
};
const fileOf = (tensors: Readonly<Record<string, FloatTensor>>) =>
  new Uint8Array(Buffer.concat(encodeSafetensors(new Map(Object.entries(tensors)), { format: "pt" })));
const read = (changes: object = {}, tensors: Readonly<Record<string, FloatTensor>> = q) =>
  readPeftAdapter({ ...config, ...changes }, fileOf(tensors), "a");

test("factors come by the base model's names, with the scale that PEFT gives them", () => {
  const { modules, dense } = read({}, { ...q, "base_model.model.score.weight": float([1, 1], 9) });
  expect([...modules]).toEqual([
    ["x.q", { in: 3, out: 1, r: 2, a: Float32Array.of(1, 2, 3, 4, 5, 6), b: Float32Array.of(7, 8), scale: 3 }],
  ]);
  expect([...dense]).toEqual([["score.weight", float([1, 1], 9)]]);
});

test("rank-stabilised, it is lora_alpha / √r", () => {
  expect(read({ use_rslora: true }).modules.get("x.q")!.scale).toBeCloseTo(6 / Math.SQRT2, 12);
});

test("a pattern that matches the end of a name has its own rank and alpha, the first that does", () => {
  const patterns = { r: 8, rank_pattern: { other: 4, q: 2, "x.q": 5 }, alpha_pattern: { "x\\.[qv]": 10 } };
  expect(read(patterns).modules.get("x.q")).toMatchObject({ r: 2, scale: 5 });
  expect(() => read({ rank_pattern: { "(": 2 } })).toThrow(/expressions that JavaScript reads too, got "\("/);
});

test("values in half the bytes are read", () => {
  const raw = new Map(Object.entries(q).map(([name, { shape, values }]) => [name, { shape, ...toBfloat16(values) }]));
  const bytes = new Uint8Array(Buffer.concat(encodeRaw(raw, {})));
  expect(readPeftAdapter(config, bytes, "a").modules.get("x.q")!.a).toEqual(Float32Array.of(1, 2, 3, 4, 5, 6));
});

describe("what is more than a product that is added is refused by name", () => {
  it.each([
    [{ peft_type: "IA3" }, /a: expected a LoRA adapter \(peft_type LORA\), got IA3/],
    [{ use_dora: true }, /expected plain LoRA, got DoRA \(use_dora\)/],
    [{ lora_bias: true }, /LoRA with a bias \(lora_bias\)/],
    [{ bias: "all" }, /trained no bias, got bias: all/],
    [{ trainable_token_indices: [1] }, /trained tokens/],
    [{ target_parameters: ["experts.gate"] }, /LoRA on single parameters/],
    [{ init_lora_weights: "pissa_niter_4" }, /init_lora_weights: pissa_niter_4, which changed it; PEFT converts it/],
    [{ lora_alpha: undefined }, /a lora_alpha, got none/],
    [{ r: 4 }, /x.q of a: expected rank 4, as its config says, got lora_A \[2, 3\]/],
  ])("%o", (changes, message) => {
    expect(() => read(changes)).toThrow(message);
  });

  it.each([
    [{ "base_model.model.e.lora_embedding_A": float([1, 1], 1) }, /lora_A or lora_B of a linear module, got another kind/],
    [{ "base_model.model.x.q.lora_magnitude_vector": float([1], 1) }, /got another kind/],
    [{ "x.v.weight": float([1], 1) }, /a name that begins with base_model\.model\./],
    [{ "base_model.model.x.v.lora_A.weight": float([2, 1], 1, 1) }, /x\.v of a: .*got lora_A \[2, 1\] and lora_B none/],
    [{ "base_model.model.x.q.lora_B.weight": float([1, 2], Number.NaN, 1) }, /expected finite values, got NaN/],
  ])("%o", (tensors, message) => {
    expect(() => read({}, { ...q, ...tensors })).toThrow(message);
  });

  it("also what is no config at all", () => {
    expect(() => readPeftAdapter(undefined, fileOf(q), "a")).toThrow(/adapter_config.json of a: expected that of a LoRA adapter/);
  });
});
