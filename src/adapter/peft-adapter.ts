import { z } from "zod";
import { RefusedError } from "../errors.ts";
import { decode, type Dtype } from "../tensor/encoded.ts";
import { decodeHeader, type FloatTensor } from "../tensor/safetensors.ts";

/** A module's product scale · b·a, with its components in any order. */
export interface AdaptedFactors {
  readonly in: number;
  readonly out: number;
  readonly r: number;
  /** [r, in] */
  readonly a: Float32Array;
  /** [out, r] */
  readonly b: Float32Array;
  readonly scale: number;
}

/** A LoRA adapter by the names of the base model. Its modules may differ in rank and scale. */
export interface AdapterFactors {
  readonly modules: ReadonlyMap<string, AdaptedFactors>;
  /** Parameters that were trained in full. */
  readonly dense: ReadonlyMap<string, FloatTensor>;
}

/**
 * Reads a PEFT adapter from its parsed `adapter_config.json` and the bytes of its `adapter_model.safetensors`, in f32, bf16 or
 * f16. `subject` names its folder in errors. Throws RefusedError for anything that is not plain LoRA on linear modules and
 * would be lost.
 */
export function readPeftAdapter(settings: unknown, bytes: Uint8Array, subject: string): AdapterFactors {
  const { data: config, error } = configSchema.safeParse(settings);
  if (!config)
    throw new RefusedError(
      `adapter_config.json of ${subject}`,
      "a LoRA adapter's",
      `something else for ${error.issues.map(({ path }) => path.join(".") || "all of it").join(", ")}`,
    );
  refuseVariants(config, settings as Readonly<Record<string, unknown>>, subject);
  const factors = new Map<string, { a?: FloatTensor; b?: FloatTensor }>();
  const dense = new Map<string, FloatTensor>();
  for (const [name, tensor] of floatTensors(bytes, subject)) {
    if (!name.startsWith(PREFIX)) throw new RefusedError(`tensor ${name} of ${subject}`, `a name that begins with ${PREFIX}`, "another");
    const own = name.slice(PREFIX.length);
    const [, module, side] = /^(.+)\.lora_([AB])\.weight$/.exec(own) ?? [];
    if (module !== undefined) factors.set(module, { ...factors.get(module), [side === "A" ? "a" : "b"]: tensor });
    else if (/(^|\.)lora_/.test(own))
      throw new RefusedError(`tensor ${name} of ${subject}`, "lora_A or lora_B of a linear module", "another kind");
    else dense.set(own, tensor);
  }
  const modules = [...factors].map(([name, { a, b }]) => [name, adaptedFactors(name, a, b, config, subject)] as const);
  return { modules: new Map(modules), dense };
}

const PREFIX = "base_model.model.";

const patterns = z
  .record(z.string(), z.number())
  .nullish()
  .transform((value) => Object.entries(value ?? {}));
const configSchema = z.object({
  peft_type: z.string(),
  r: z.number().int().positive().optional(),
  lora_alpha: z.number().optional(),
  use_rslora: z.boolean().nullish(),
  bias: z.string().nullish(),
  init_lora_weights: z.union([z.boolean(), z.string()]).nullish(),
  rank_pattern: patterns,
  alpha_pattern: patterns,
});
type PeftConfig = z.output<typeof configSchema>;

/** Options of PEFT with which an adapter's tensors are not a product to be added. */
const VARIANTS = {
  use_dora: "DoRA",
  lora_bias: "LoRA with a bias",
  use_qalora: "QALoRA",
  use_bdlora: "BD-LoRA",
  kasa_config: "KaSA",
  monteclora_config: "MonteCLoRA",
  arrow_config: "Arrow",
  alora_invocation_tokens: "activated LoRA",
  layer_replication: "layer replication",
  trainable_token_indices: "trained tokens",
  target_parameters: "LoRA on single parameters",
} as const;
/** They change the base model's weights when training begins; without these the adapter is meaningless. */
const CHANGES_BASE = /^(pissa|corda|olora|loftq|lora_ga)/i;

function refuseVariants(
  { peft_type: type, bias, init_lora_weights: init }: PeftConfig,
  settings: Readonly<Record<string, unknown>>,
  subject: string,
): void {
  if (type !== "LORA") throw new RefusedError(subject, "a LoRA adapter (peft_type LORA)", type);
  const isSet = (value: unknown) => Boolean(value) && !(Array.isArray(value) && value.length === 0);
  const used = Object.entries(VARIANTS).find(([key]) => isSet(settings[key]));
  if (used) throw new RefusedError(subject, "plain LoRA", `${used[1]} (${used[0]})`);
  if (bias !== null && bias !== undefined && bias !== "none")
    throw new RefusedError(subject, "an adapter that trained no bias", `bias: ${bias}`);
  if (typeof init === "string" && CHANGES_BASE.test(init)) {
    const remedy = "PEFT converts it: save_pretrained(…, path_initial_model_for_weight_conversion=…)";
    throw new RefusedError(subject, "an adapter of the base model as it is", `init_lora_weights: ${init}, which changed it; ${remedy}`);
  }
}

function adaptedFactors(
  name: string,
  a: FloatTensor | undefined,
  b: FloatTensor | undefined,
  config: PeftConfig,
  subject: string,
): AdaptedFactors {
  const where = `${name} of ${subject}`;
  const [r, input, ...beyondA] = a?.shape ?? [];
  const [output, same, ...beyondB] = b?.shape ?? [];
  const describe = (tensor: FloatTensor | undefined) => (tensor ? `[${tensor.shape.join(", ")}]` : "none");
  if (!a || !b || !r || !input || !output || same !== r || beyondA.length > 0 || beyondB.length > 0) {
    throw new RefusedError(where, "lora_A [r, in] and lora_B [out, r]", `lora_A ${describe(a)} and lora_B ${describe(b)}`);
  }
  const rank = patternValue(config.rank_pattern, name) ?? config.r;
  if (rank !== r) throw new RefusedError(where, `rank ${rank ?? "(none is given)"}, as its config says`, `lora_A ${describe(a)}`);
  const alpha = patternValue(config.alpha_pattern, name) ?? config.lora_alpha;
  if (alpha === undefined) throw new RefusedError(`adapter_config.json of ${subject}`, "a lora_alpha", "none");
  return { in: input, out: output, r, a: a.values, b: b.values, scale: alpha / (config.use_rslora ? Math.sqrt(r) : r) };
}

/** The first entry with a key that is the module's name or matches its end, as in PEFT (get_pattern_key). */
function patternValue(entries: readonly (readonly [string, number])[], name: string): number | undefined {
  return entries.find(([key]) => expressionOf(key).test(name))?.[1];
}

function expressionOf(key: string): RegExp {
  try {
    return new RegExp(`^(.*\\.)?(${key})$`);
  } catch {
    throw new RefusedError(
      "rank_pattern and alpha_pattern",
      "names, or expressions that are valid in JavaScript, too",
      JSON.stringify(key),
    );
  }
}

function floatTensors(bytes: Uint8Array, subject: string): ReadonlyMap<string, FloatTensor> {
  const tensors = new Map<string, FloatTensor>();
  for (const [name, { dtype, shape, from, to }] of decodeHeader(bytes, bytes.length, `adapter_model.safetensors of ${subject}`).tensors) {
    if (!["F32", "BF16", "F16"].includes(dtype)) throw new RefusedError(`tensor ${name} of ${subject}`, "F32, BF16 or F16", dtype);
    const length = shape.reduce((product, side) => product * side, 1);
    const values = decode({ dtype: dtype as Dtype, length, bytes: bytes.subarray(from, to) });
    const wrong = values.find((value) => !Number.isFinite(value));
    if (wrong !== undefined) throw new RefusedError(`tensor ${name} of ${subject}`, "finite values", `${wrong}`);
    tensors.set(name, { shape, values });
  }
  return tensors;
}
