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

test("a PEFT adapter is read with the base model's names and PEFT's scale", () => {
  const { modules, dense } = read({}, { ...q, "base_model.model.score.weight": float([1, 1], 9) });
  expect([...modules]).toEqual([
    ["x.q", { in: 3, out: 1, r: 2, a: Float32Array.of(1, 2, 3, 4, 5, 6), b: Float32Array.of(7, 8), scale: 3 }],
  ]);
  expect([...dense]).toEqual([["score.weight", float([1, 1], 9)]]);
});

test("the scale of a rank-stabilised PEFT adapter is lora_alpha / √r", () => {
  expect(read({ use_rslora: true }).modules.get("x.q")!.scale).toBeCloseTo(6 / Math.SQRT2, 12);
});

test("the first pattern that matches the end of a module's name sets its rank and alpha", () => {
  const patterns = { r: 8, rank_pattern: { other: 4, q: 2, "x.q": 5 }, alpha_pattern: { "x\\.[qv]": 10 } };
  expect(read(patterns).modules.get("x.q")).toMatchObject({ r: 2, scale: 5 });
  expect(() => read({ rank_pattern: { "(": 2 } })).toThrow(expect.objectContaining({ kind: "refused", received: '"("' }));
});

test("a PEFT adapter in bfloat16 can be read", () => {
  const raw = new Map(Object.entries(q).map(([name, { shape, values }]) => [name, { shape, ...toBfloat16(values) }]));
  const bytes = new Uint8Array(Buffer.concat([...encodeRaw(raw, {})]));
  expect(readPeftAdapter(config, bytes, "a").modules.get("x.q")!.a).toEqual(Float32Array.of(1, 2, 3, 4, 5, 6));
});

describe("an adapter that is not plain LoRA is refused by the name of what it has:", () => {
  it.each([
    [{ peft_type: "IA3" }, /^a: .*\bLORA\b.*\bIA3\b/],
    [{ use_dora: true }, /\buse_dora\b/],
    [{ lora_bias: true }, /\blora_bias\b/],
    [{ bias: "all" }, /\bbias: all\b/],
    [{ trainable_token_indices: [1] }, /\btrainable_token_indices\b/],
    [{ target_parameters: ["experts.gate"] }, /\btarget_parameters\b/],
    [{ init_lora_weights: "pissa_niter_4" }, /\binit_lora_weights: pissa_niter_4\b.*\bPEFT\b/],
    [{ lora_alpha: undefined }, /\badapter_config\.json of a\b.*\blora_alpha\b/],
    [{ r: 4 }, /\bx\.q of a\b.*\brank 4\b.*lora_A \[2, 3\]/],
  ])("%o", (changes, message) => {
    expect(() => read(changes)).toThrow(message);
  });

  it.each([
    [{ "base_model.model.e.lora_embedding_A": float([1, 1], 1) }, /\btensor base_model\.model\.e\.lora_embedding_A of a\b/],
    [{ "base_model.model.x.q.lora_magnitude_vector": float([1], 1) }, /\btensor base_model\.model\.x\.q\.lora_magnitude_vector of a\b/],
    [{ "x.v.weight": float([1], 1) }, /\btensor x\.v\.weight of a\b.*\bbase_model\.model\./],
    [{ "base_model.model.x.v.lora_A.weight": float([2, 1], 1, 1) }, /\bx\.v of a\b.*lora_A \[2, 1\] and lora_B none/],
    [{ "base_model.model.x.q.lora_B.weight": float([1, 2], Number.NaN, 1) }, /\bx\.q\.lora_B\.weight of a\b.*\bNaN\b/],
  ])("%o", (tensors, message) => {
    expect(() => read({}, { ...q, ...tensors })).toThrow(message);
  });

  it("a missing config", () => {
    expect(() => readPeftAdapter(undefined, fileOf(q), "a")).toThrow(/\badapter_config\.json of a\b/);
  });
});
