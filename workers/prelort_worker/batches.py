"""Examples as padded batches, and the loss over them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .index import Index

IGNORED = -100


@dataclass(frozen=True)
class Batch:
    input_ids: Tensor
    attention_mask: Tensor
    # causal-lm: [examples, tokens], IGNORED but for the answer; sequence-classification: [examples]
    targets: Tensor

    def __len__(self) -> int:
        return len(self.input_ids)


def collate(index: Index, examples: Sequence[int], device: torch.device) -> Batch:
    """Padded on the right to the longest of the batch."""
    tokens = [index.tokens(example) for example in examples]
    shape = (len(tokens), max(map(len, tokens)))
    input_ids = torch.full(shape, index.info.pad_token_id, dtype=torch.int64)
    attention_mask = torch.zeros(shape, dtype=torch.int64)
    targets = torch.full(shape, IGNORED, dtype=torch.int64)
    for row, (example, ids) in enumerate(zip(examples, tokens, strict=True)):
        input_ids[row, : len(ids)] = ids
        attention_mask[row, : len(ids)] = 1
        if index.info.task == "causal-lm":
            prompt = int(index.targets[example])
            targets[row, prompt : len(ids)] = ids[prompt:]
    if index.info.task == "sequence-classification":
        targets = index.targets[list(examples)]
    return Batch(input_ids.to(device), attention_mask.to(device), targets.to(device))


def forward(model: torch.nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits [n, classes] and targets [n] of all the batch is judged by, in order; IGNORED ones among them."""
    logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    if batch.targets.dim() == 1:
        return logits, batch.targets
    # Position i tells token i + 1.
    return logits[:, :-1].flatten(0, 1), batch.targets[:, 1:].flatten()


def mean_loss(model: torch.nn.Module, batch: Batch) -> Tensor:
    """Over the batch's answer tokens, or its examples."""
    logits, targets = forward(model, batch)
    return functional.cross_entropy(logits, targets, ignore_index=IGNORED)
