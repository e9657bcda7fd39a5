import type { Gpu } from "./gpu.ts";

/** A way to train on a device, which a GPU has more of. */
export interface Kind {
  /** As on the command line of `prelort run`. */
  readonly set: readonly string[];
  /** What it is measured against: another of these. Default: a plain loop over PyTorch and PEFT. */
  readonly against?: string;
  /** Another of these that must give the same bytes. Default: its own repetition. */
  readonly sameBytesAs?: string;
  /** What a worker must import. */
  readonly package?: keyof typeof INSTALL;
  /** Whether a CPU has it too. */
  readonly isOnCpu?: true;
}

/** How to install the packages that no constraint pins. */
const INSTALL = {
  bitsandbytes: "pip install bitsandbytes",
  flash_attn: "pip install flash-attn --no-build-isolation, which compiles it, or one of its wheels for this PyTorch",
};

const BF16 = "model.dtype=bf16";

export const KINDS: Readonly<Record<string, Kind>> = {
  f32: { set: [], isOnCpu: true },
  bf16: { set: [BF16], against: "f32", isOnCpu: true },
  "8bit": { set: [BF16, "model.quantization=8bit"], against: "bf16", package: "bitsandbytes" },
  "4bit": { set: [BF16, "model.quantization=4bit"], against: "bf16", package: "bitsandbytes" },
  eager: { set: [BF16, "model.attention=eager"], against: "bf16", isOnCpu: true },
  // What transformers chooses by itself.
  sdpa: { set: [BF16, "model.attention=sdpa"], against: "eager", sameBytesAs: "bf16", isOnCpu: true },
  flash_attention_2: { set: [BF16, "model.attention=flash_attention_2"], against: "sdpa", package: "flash_attn" },
  adamw_8bit: { set: [BF16, "fit.optimizer={ name: adamw_8bit }"], against: "bf16", package: "bitsandbytes" },
  slots: { set: [BF16, "workers.slots_per_device=2"], against: "bf16", sameBytesAs: "bf16", isOnCpu: true },
};

/** What a machine lacks for a kind; undefined if nothing. */
export function lacksFor(kind: Kind, { lacks, packages }: Pick<Gpu, "lacks" | "packages">): string | undefined {
  if (lacks !== undefined || kind.package === undefined || packages.includes(kind.package)) return lacks;
  return `the package ${kind.package} in the workers' environment: ${INSTALL[kind.package]}`;
}
