/** Llamas of random weights, as transformers' LlamaConfig has them. */
export type LlamaShape = Readonly<Record<string, number | boolean>>;

/** HuggingFaceTB/SmolLM2-135M, config.json. */
export const SMOLLM2: LlamaShape = {
  vocab_size: 49_152,
  hidden_size: 576,
  intermediate_size: 1_536,
  num_hidden_layers: 30,
  num_attention_heads: 9,
  num_key_value_heads: 3,
  max_position_embeddings: 8_192,
  tie_word_embeddings: true,
};

/** TinyLlama/TinyLlama-1.1B, config.json. */
export const TINYLLAMA: LlamaShape = {
  vocab_size: 32_000,
  hidden_size: 2_048,
  intermediate_size: 5_632,
  num_hidden_layers: 22,
  num_attention_heads: 32,
  num_key_value_heads: 4,
  max_position_embeddings: 2_048,
  tie_word_embeddings: false,
};

/** Wide enough that an adapter of rank 8 has the 4,096 values from which adamw_8bit keeps 8 bits. */
export const SMALL: LlamaShape = {
  vocab_size: 1_003,
  hidden_size: 512,
  intermediate_size: 512,
  num_hidden_layers: 2,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  max_position_embeddings: 512,
  tie_word_embeddings: false,
};

/** For a CPU, on which bf16 may be very slow. */
export const TINY: LlamaShape = { ...SMALL, hidden_size: 32, intermediate_size: 32, num_hidden_layers: 1 };
