import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it, test } from "vitest";
import { encodeGlobal } from "../../../src/adapter/global-file.ts";
import { type AdapterShape, createLayout } from "../../../src/adapter/layout.ts";
import { adapterConfig, peftTensors } from "../../../src/adapter/peft.ts";
import { encodeSafetensors } from "../../../src/tensor/safetensors.ts";
import { environmentPython } from "../../../src/installation.ts";
import { awkwardAdapter } from "../../support/federations.ts";

test("PEFT tensors are lora_A [r, in] and lora_B [out, r] from rows, and the original parameters from dense values", () => {
  const layout = createLayout(
    { r: 2, tiers: [1, 2], scale: 2 },
    { modules: [{ name: "x.q", in: 2, out: 3 }], dense: [{ name: "head.weight", shape: [1, 2] }] },
  );
  const adapter = { r: 2, rows: Float32Array.of(1, 2, 10, 20, 30, 3, 4, 11, 21, 31), dense: Float32Array.of(8, 9) };
  expect(Object.fromEntries(peftTensors(layout, adapter, 2))).toMatchObject({
    "base_model.model.x.q.lora_A.weight": { shape: [2, 2], values: Float32Array.of(1, 2, 3, 4) },
    "base_model.model.x.q.lora_B.weight": { shape: [3, 2], values: Float32Array.of(10, 11, 20, 21, 30, 31) },
    "base_model.model.head.weight": { shape: [1, 2], values: Float32Array.of(8, 9) },
  });
  expect(peftTensors(layout, adapter, 1).get("base_model.model.x.q.lora_B.weight")).toMatchObject({
    shape: [3, 1],
    values: Float32Array.of(10, 20, 30),
  });
});

test("the pieces of a tensor are its values, in order, however large it is", () => {
  const layout = createLayout({ r: 3, tiers: [3], scale: 2 }, { modules: [{ name: "q", in: 200_000, out: 100_001 }], dense: [] });
  const rows = Float32Array.from({ length: 3 * layout.width }, (_, index) => index);
  for (const [name, { values, pieces }] of peftTensors(layout, { r: 3, rows, dense: new Float32Array(0) }, 3)) {
    const made = [...pieces()];
    expect(made.length, name).toBeGreaterThan(1);
    expect(Buffer.concat(made.map(({ buffer }) => new Uint8Array(buffer))).equals(Buffer.from(values.buffer)), name).toBe(true);
  }
  const b = peftTensors(layout, { r: 3, rows, dense: new Float32Array(0) }, 3).get("base_model.model.q.lora_B.weight")?.values;
  // Of output 100,000 and component 1: row 1 begins at 300,001.
  expect(b?.[3 * 100_000 + 1]).toBe(300_001 + 200_000 + 100_000);
});

/** The tiny models of test/fixtures/tiny.py, one with an unusual scale on purpose. */
const cases = {
  llama: {
    scale: 2,
    model: "tiny-llama",
    peft: { taskType: "CAUSAL_LM", modulesToSave: [] },
    lora: { lora_dropout: 0.1 },
    shape: layersOf("model.layers", "self_attn", { q_proj: 32, v_proj: 16 }, []),
  },
  bert: {
    scale: 0.7,
    model: "tiny-bert",
    peft: { taskType: "SEQ_CLS", modulesToSave: ["bert.pooler", "classifier"] },
    lora: { lora_dropout: 0 },
    shape: layersOf("bert.encoder.layer", "attention.self", { query: 32, value: 32 }, [
      { name: "bert.pooler.dense.weight", shape: [32, 32] },
      { name: "bert.pooler.dense.bias", shape: [32] },
      { name: "classifier.weight", shape: [4, 32] },
      { name: "classifier.bias", shape: [4] },
    ]),
  },
} as const;
const ranks = [1, 3, 8];

interface Inspection {
  readonly difference: number;
  readonly moved: number;
  readonly scalings: readonly number[];
}

describe("PEFT itself", () => {
  let inspections: Readonly<Record<string, Inspection>> = {};
  const folder = mkdtempSync(path.join(tmpdir(), "prelort-peft-"));
  afterAll(() => rmSync(folder, { recursive: true }));

  beforeAll(() => {
    for (const [name, { scale, shape, model, lora, peft }] of Object.entries(cases)) {
      const layout = createLayout({ r: 8, tiers: ranks, scale }, shape);
      const adapter = awkwardAdapter(layout, 8, name);
      const baseModel = path.join(folder, "models", model);
      for (const values of [adapter.rows, adapter.dense])
        for (const [index, value] of values.entries()) values[index] = Math.tanh(value) / 8;
      for (const r of ranks) {
        const target = path.join(folder, name, `r${r}`);
        mkdirSync(target, { recursive: true });
        writeFileSync(path.join(target, "adapter_config.json"), JSON.stringify(adapterConfig({ layout, r, lora, baseModel, peft })));
        writeFileSync(
          path.join(target, "adapter_model.safetensors"),
          Buffer.concat(encodeSafetensors(peftTensors(layout, adapter, r), { format: "pt" })),
        );
      }
      writeFileSync(path.join(folder, name, "global.safetensors"), Buffer.concat(encodeGlobal(layout, adapter, 0)));
    }
    const script = path.join(import.meta.dirname, "../../fixtures/load_adapters.py");
    const env = { OMP_NUM_THREADS: "1", HF_HUB_OFFLINE: "1" };
    inspections = JSON.parse(
      execFileSync(environmentPython(), [script, folder], { encoding: "utf8", stdio: "pipe", env: { ...process.env, ...env } }),
    ) as typeof inspections;
  });

  const adapters = Object.entries(cases).flatMap(([name, { scale }]) => ranks.map((r) => ({ name: `${name}/r${r}`, scale })));
  it.each(adapters)("loads all of $name at scale $scale, with the logits of manually merged weights", ({ name, scale }) => {
    expect(inspections[name]).toMatchObject({ warnings: [], unread: [], missing: [], changed: [] });
    const { scalings, difference, moved } = inspections[name]!;
    expect(scalings).toHaveLength(1);
    expect(scalings[0]).toBeCloseTo(scale, 12);
    expect(difference).toBeLessThan(1e-5);
    expect(moved).toBeGreaterThan(1e-3);
  });
});

/** Two layers of one block each, 32 wide, with the given projections. */
function layersOf(stem: string, block: string, projections: Readonly<Record<string, number>>, dense: AdapterShape["dense"]): AdapterShape {
  const modules = [0, 1].flatMap((layer) =>
    Object.entries(projections).map(([projection, out]) => ({ name: `${stem}.${layer}.${block}.${projection}`, in: 32, out })),
  );
  return { modules, dense };
}
