import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { buildRun, loadConfig } from "../../../src/index.ts";
import { packageRoot } from "../../../src/installation.ts";
import { configOf } from "../../bench/device-run.ts";
import { SMOLLM2_ON_A_GPU } from "../../bench/experiments/gpu-kinds.ts";
import { whatLacks } from "../../bench/gpu.ts";
import { type Kind, KINDS, lacksFor } from "../../bench/kinds.ts";

describe("what a GPU experiment lacks", () => {
  const cpuBuild = { torch: "2.13.0+cpu", cuda: null, devices: [] };
  const cudaBuild = { torch: "2.13.0", cuda: "13.0", devices: [] };

  test("is nothing if PyTorch sees a card, whatever nvidia-smi says", () => {
    expect(whatLacks({ ...cudaBuild, devices: ["NVIDIA H200"] }, [])).toBeUndefined();
  });

  test("is a card, if there is none", () => {
    expect(whatLacks(cpuBuild, [])).toBe("a CUDA device");
    expect(whatLacks(cudaBuild, [])).toBe("a CUDA device");
  });

  test("is a PyTorch for CUDA, if this one is built for the CPU", () => {
    const told = whatLacks(cpuBuild, ["NVIDIA H200"]);
    for (const part of ["NVIDIA H200", "2.13.0+cpu", "without CUDA", ".venv", "PIP_EXTRA_INDEX_URL"]) expect(told).toContain(part);
  });

  test("is a driver or a visible device, if PyTorch is built for CUDA and sees none", () => {
    const told = whatLacks(cudaBuild, ["NVIDIA H200"]);
    for (const part of ["NVIDIA H200", "CUDA 13.0", "driver", "CUDA_VISIBLE_DEVICES"]) expect(told).toContain(part);
  });

  test("is a package, if a kind of training needs one", () => {
    const bare = { lacks: undefined, packages: ["bitsandbytes"] };
    expect(lacksFor(KINDS["4bit"] as Kind, bare)).toBeUndefined();
    expect(lacksFor(KINDS["flash_attention_2"] as Kind, bare)).toMatch(/\bflash_attn\b.*\bpip install flash-attn\b/);
    expect(lacksFor(KINDS["flash_attention_2"] as Kind, { ...bare, lacks: "a CUDA device" })).toBe("a CUDA device");
  });
});

test("every kind's config is valid", async () => {
  const model = mkdtempSync(path.join(tmpdir(), "prelort-kinds-"));
  onTestFinished(() => rmSync(model, { recursive: true }));
  writeFileSync(path.join(model, "words.jsonl"), '{"word": "w1", "gloss": "w2"}');
  for (const { set } of Object.values(KINDS)) {
    const all = [...configOf(SMOLLM2_ON_A_GPU, model), ...set];
    const config = buildRun(await loadConfig(path.join(packageRoot(), "configs/generation-llama.yaml"), { set: all }));
    expect(config.model.nameOrPath).toBe(model);
    expect([config.fit?.localSteps, config.workers?.devices]).toEqual([SMOLLM2_ON_A_GPU.localSteps, ["cuda:0"]]);
  }
});

test("every kind is measured against one that the table has, and so are its bytes", () => {
  for (const { against = "f32", sameBytesAs = "f32" } of Object.values(KINDS)) {
    expect(Object.keys(KINDS)).toEqual(expect.arrayContaining([against, sameBytesAs]));
  }
});
