"""
A task of one's own: which year is a sentence from? (State of the Union addresses, 1790 to 2021, public domain.)

Clients and partitions, nested LoRA, evaluation at every rank, records and resume are done for it. What is left is here:
the model, what it makes of a row, its loss and its metrics. Put yours in their place.
"""

from prelort_worker.tasks import Task
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer


class NewTask(Task):
    targets = ("year",)  # of an example, what the model is not given
    heads = ("classifier",)  # modules that are trained in full, since the checkpoint lacks them

    def build_model(self) -> nn.Module:
        """The base model, whose weights stay frozen. Adapters go on the modules that lora.target_modules names."""
        return AutoModelForSequenceClassification.from_pretrained(self.model.name_or_path, num_labels=1)

    def encode(self, rows, data, progress) -> list[dict[str, Tensor]]:
        """An example of each row: tensors by name. Rows have the columns of data.path."""
        tokenizer = AutoTokenizer.from_pretrained(self.model.name_or_path)
        examples = []
        for row in rows:
            text = tokenizer(row.columns["sentence"], truncation=True, max_length=data.max_length, return_tensors="pt")
            year = (float(row.columns["year"]) - 1905) / 100
            examples.append({**{name: values[0] for name, values in text.items()}, "year": Tensor([year])})
        return examples

    def losses(self, outputs, batch) -> Tensor:
        """One for each example of the batch, or as many for each."""
        return (outputs.logits - batch["year"]).square().flatten()

    def metrics(self, outputs, batch) -> dict[str, Tensor]:
        """One number for each example; their mean is reported at every rank."""
        return {"years off": 100 * (outputs.logits - batch["year"]).abs().flatten()}
