import { readFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { createLayout } from "../../../src/adapter/layout.ts";
import { exportRun } from "../../../src/artifacts/export-run.ts";
import { decodeHeader } from "../../../src/tensor/safetensors.ts";
import { randomAdapter } from "../../../src/testing/index.ts";
import { madeRuns } from "../../support/made-run.ts";

interface Folder {
  readonly config: Readonly<Record<string, unknown>>;
  /** Shapes by tensor name. */
  readonly tensors: ReadonlyMap<string, readonly number[]>;
}

/**
 * Why vLLM refuses an adapter, given its max_lora_rank: vllm/lora/peft_helper.py (PEFTHelper.from_dict and validate_legal),
 * vllm/lora/lora_model.py (check_unexpected_modules), vllm/lora/utils.py (parse_fine_tuned_lora_name).
 */
function vllmRefuses({ config, tensors }: Folder, maxLoraRank: number): readonly string[] {
  const found = ["r", "lora_alpha", "target_modules"].filter((key) => config[key] === undefined).map((key) => `${key} is missing`);
  const saved = config["modules_to_save"] as readonly string[] | null | undefined;
  if (saved && saved.length > 0) found.push("modules_to_save");
  if (config["use_dora"]) found.push("use_dora");
  if (config["bias"] !== "none") found.push("bias");
  if (Number(config["r"]) > maxLoraRank) found.push("max_lora_rank");
  const parsed = /^base_model\.model\.(.+)\.lora_[AB]\.weight$/;
  for (const name of tensors.keys()) if (!parsed.test(name)) found.push(name);
  // vLLM has one rank for the whole adapter, whatever rank_pattern says.
  const ranks = new Set([...tensors].map(([name, shape]) => (name.endsWith("lora_A.weight") ? shape[0] : shape[1])));
  if (found.length === 0 && (ranks.size !== 1 || !ranks.has(Number(config["r"])))) found.push("ranks");
  return found;
}

/**
 * Why llama.cpp's convert_lora_to_gguf.py refuses an adapter (LoraModel.get_tensors): it reads lora_alpha and
 * base_model_name_or_path, takes r from the tensors, and fails at any that is neither lora_A nor lora_B nor a norm.
 */
function llamaCppRefuses({ config, tensors }: Folder): readonly string[] {
  const found = ["lora_alpha", "base_model_name_or_path"].filter((key) => config[key] === undefined);
  const pairs = new Map<string, { a?: readonly number[]; b?: readonly number[] }>();
  for (const [name, shape] of tensors) {
    const [, module = "", side] = /^(.*)\.lora_([AB])\.weight$/.exec(name) ?? [];
    if (side === undefined && !/_layernorm|\.norm/.test(name)) found.push(name);
    if (side !== undefined) pairs.set(module, { ...pairs.get(module), [side === "A" ? "a" : "b"]: shape });
  }
  for (const [module, { a, b }] of pairs) if (!a || !b || a[0] !== b[1]) found.push(`a pair of ${module}`);
  return found;
}

const modules = ["q_proj", "v_proj"].map((name) => ({ name: `model.layers.0.self_attn.${name}`, in: 40, out: 36 }));
const runs = madeRuns();

async function exported(
  name: string,
  r: number,
  head = false,
  pooling?: "mean",
): Promise<Folder & { readonly remarks: readonly string[] }> {
  const dense = head ? [{ name: "classifier.weight", shape: [3, 40] }] : [];
  const layout = createLayout({ r, tiers: [r], scale: 2 }, { modules, dense });
  const run = await runs.make({
    name,
    layout,
    rounds: [randomAdapter(layout, r, name)],
    modulesToSave: head ? ["classifier"] : [],
    pooling,
  });
  const { directory, remarks } = await exportRun(run, { out: path.join(runs.folder, "exports", name) });
  const bytes = readFileSync(path.join(directory, "adapter_model.safetensors"));
  const tensors = [...decodeHeader(bytes, bytes.length, "it").tensors].map(([tensor, { shape }]) => [tensor, shape] as const);
  const config = JSON.parse(readFileSync(path.join(directory, "adapter_config.json"), "utf8")) as Folder["config"];
  return { config, tensors: new Map(tensors), remarks };
}

test("vLLM and llama.cpp accept a language model's adapter, and the export has no remarks", async () => {
  const folder = await exported("plain", 16);
  expect(vllmRefuses(folder, 16)).toEqual([]);
  expect(llamaCppRefuses(folder)).toEqual([]);
  expect(folder.remarks).toEqual([]);
});

test("the export of a large rank names the vLLM setting that it needs", async () => {
  const folder = await exported("large", 33);
  expect(vllmRefuses(folder, 16)).toEqual(["max_lora_rank"]);
  expect(vllmRefuses(folder, 64)).toEqual([]);
  expect(folder.remarks).toEqual([expect.stringMatching(/^vLLM\b.*--max-lora-rank 64\b/)]);
});

test("vLLM and llama.cpp refuse modules that were trained in full, and the export's remarks say so", async () => {
  const folder = await exported("head", 8, true);
  expect(vllmRefuses(folder, 16)).toEqual(["modules_to_save", "base_model.model.classifier.weight"]);
  expect(llamaCppRefuses(folder)).toEqual(["base_model.model.classifier.weight"]);
  expect(folder.remarks).toEqual([
    expect.stringMatching(/^vLLM\b.*\bclassifier\b.*--merge\b/),
    expect.stringMatching(/^llama\.cpp\b.*\bbase_model\.model\.classifier\.weight\b.*--merge\b/),
  ]);
});

test("the export of a mean-pooled model does not recommend --merge, since no other loader takes the merged model", async () => {
  const { remarks } = await exported("pooled", 8, true, "mean");
  expect(remarks).toEqual([expect.stringMatching(/^vLLM\b(?!.*--merge)/), expect.stringMatching(/^llama\.cpp\b(?!.*--merge)/)]);
});
