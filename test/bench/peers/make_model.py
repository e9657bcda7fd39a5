"""
A Llama with random weights, and rows of data for it whose answers are equally long.

    python make_model.py '{"folder": FOLDER, "shape": {…}, "dtype": "bf16", "device": "cpu", "rows": 200, "words": 2}'
"""

import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

asked = json.loads(sys.argv[1])
folder = Path(asked["folder"])
words = ["<pad>", "</s>", "<unk>", *(f"w{index}" for index in range(1000))]
text = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
text.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
tokenizer = PreTrainedTokenizerFast(tokenizer_object=text, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
torch.manual_seed(0)
config = LlamaConfig(**asked["shape"], pad_token_id=0, eos_token_id=1, bos_token_id=1)
with torch.device(asked["device"]):
    model = LlamaForCausalLM(config)
if asked["dtype"] == "bf16":
    model.bfloat16()
model.save_pretrained(folder)
tokenizer.save_pretrained(folder)
rows = [
    {"word": f"w{index % 1000}", "gloss": " ".join(f"w{(7 * index + place) % 1000}" for place in range(asked["words"]))}
    for index in range(asked["rows"])
]
(folder / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
print("{}")
