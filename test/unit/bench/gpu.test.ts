import { describe, expect, test } from "vitest";
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

test("every kind is measured against one that the table has, and so are its bytes", () => {
  for (const { against = "f32", sameBytesAs = "f32" } of Object.values(KINDS)) {
    expect(Object.keys(KINDS)).toEqual(expect.arrayContaining([against, sameBytesAs]));
  }
});
