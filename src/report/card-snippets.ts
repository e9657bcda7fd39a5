import path from "node:path";
import type { Made } from "../artifacts/save-trained.ts";
import type { RunRecord } from "../records/read-run.ts";

/* Python that a model card shows. */

/** How to load an export. */
export function loadSnippet({ config, labels }: Pick<RunRecord, "config" | "labels">, made: Made): string {
  const { task } = config.model;
  const isPooled = config.model["pooling"] === "mean";
  const type = config.model["problem_type"];
  const loader = isPooled ? "MeanPooledClassifier" : LOADERS[task];
  if (!loader) return `Its task, \`${task}\`, is a class of those who trained it: they know how to load it.`;
  const imports = isPooled
    ? `from prelort_worker.models import ${loader}  # in the folder workers of the npm package prelort`
    : `from transformers import ${loader}`;
  const heads = task.endsWith("classification")
    ? `, num_labels=${type === "regression" ? 1 : labels.length}${typeof type === "string" && !isPooled ? `, problem_type="${type}"` : ""}`
    : "";
  if (made.merged) return python(`${imports}\n\nmodel = ${loader}.from_pretrained("path/or/name of this model")`);
  const from = isPooled ? "from_encoder" : "from_pretrained";
  const base = path.isAbsolute(made.base) ? "path/or/name of the base model" : made.base;
  const named = labels.length > 0 ? `\nlabels = ${JSON.stringify(labels)}  # by number` : "";
  return python(
    `from peft import PeftModel\n${imports}\n\nbase = ${loader}.${from}("${base}"${heads})\nmodel = PeftModel.from_pretrained(base, "path/or/name of this adapter")${named}`,
  );
}

const LOADERS: Readonly<Record<string, string>> = {
  "causal-lm": "AutoModelForCausalLM",
  "seq2seq-lm": "AutoModelForSeq2SeqLM",
  "sequence-classification": "AutoModelForSequenceClassification",
  "image-classification": "AutoModelForImageClassification",
};

/** How to cut an adapter to its first components. */
export function cutSnippet(r: number): string {
  const about = `Its components are ordered: the first of them are an adapter by themselves. This writes one of any rank below ${r} into the folder \`smaller\`:`;
  return `${about}\n\n${python(`import json
from pathlib import Path
from safetensors.torch import load_file, save_file

folder, rank = Path("path of this adapter"), ${Math.max(1, Math.floor(r / 2))}
tensors = load_file(folder / "adapter_model.safetensors")
cut = {
    name: (value[:rank] if ".lora_A." in name else value[:, :rank] if ".lora_B." in name else value).contiguous()
    for name, value in tensors.items()
}
config = json.loads((folder / "adapter_config.json").read_text())
config["lora_alpha"] = config["lora_alpha"] / config["r"] * rank  # the scale, lora_alpha / r, stays
config["r"] = rank
Path("smaller").mkdir(exist_ok=True)
save_file(cut, "smaller/adapter_model.safetensors", {"format": "pt"})
Path("smaller/adapter_config.json").write_text(json.dumps(config, indent=2))`)}`;
}

function python(code: string): string {
  return `\`\`\`python\n${code}\n\`\`\``;
}
