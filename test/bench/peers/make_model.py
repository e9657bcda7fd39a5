"""
A causal language model of SmolLM2-135M's shape with random weights, and a few rows of data for it.

    python make_model.py '{"folder": FOLDER}'
"""

import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

folder = Path(json.loads(sys.argv[1])["folder"])
# HuggingFaceTB/SmolLM2-135M, config.json
shape = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
words = ["<pad>", "</s>", "<unk>", *(f"w{index}" for index in range(1000))]
text = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
text.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
tokenizer = PreTrainedTokenizerFast(tokenizer_object=text, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
torch.manual_seed(0)
LlamaForCausalLM(LlamaConfig(**shape, pad_token_id=0, eos_token_id=1, bos_token_id=1)).save_pretrained(folder)
tokenizer.save_pretrained(folder)
rows = [{"word": f"w{index}", "gloss": f"w{index + 1} w{index + 2}"} for index in range(200)]
(folder / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
print("{}")
