"""
Time that a script needs until its first training step: imports, the model, PEFT, one batch.

    python start.py '{"run": RUN_DIR, "model": PATH}'

Prints {"step": …}: the time at which the step ended, in seconds since 1970.
"""

import json
import sys
import time
from pathlib import Path

asked = json.loads(sys.argv[1])
record = json.loads((Path(asked["run"]) / "run.json").read_text())

import torch  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: E402

torch.set_num_threads(1)
tokenizer = AutoTokenizer.from_pretrained(asked["model"])
base = AutoModelForSequenceClassification.from_pretrained(asked["model"], num_labels=len(record["labels"]))
lora = record["config"]["lora"]
model = get_peft_model(base, LoraConfig(r=lora["r"], target_modules=lora["target_modules"], task_type="SEQ_CLS"))
optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-3)
batch = tokenizer(["a small furry animal that eats nuts"] * 16, return_tensors="pt")
model(**batch, labels=torch.zeros(16, dtype=torch.int64)).loss.backward()
optimizer.step()
print(json.dumps({"step": time.time()}))
