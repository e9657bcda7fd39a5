"""Examples as padded batches, and the loss over them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    # Answer tokens, or examples; known without asking the device.
    n_targets: int

    def __len__(self) -> int:
        return len(self.input_ids)

    def repeated(self, times: int) -> "Batch":
        """The whole batch, time after time."""
        return Batch(
            self.input_ids.repeat(times, 1),
            self.attention_mask.repeat(times, 1),
            self.targets.repeat(times, *[1] * (self.targets.dim() - 1)),
            self.n_targets * times,
        )


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
    # No position tells a text's first token, so that it is no target.
    told = targets if targets.dim() == 1 else targets[:, 1:]
    n_targets = int((told != IGNORED).sum())
    return Batch(input_ids.to(device), attention_mask.to(device), targets.to(device), n_targets)


def forward(model: torch.nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits [n, classes] and targets [n] of all the batch is judged by, in order; IGNORED ones among them."""
    with precision(model):
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits.float()
    if batch.targets.dim() == 1:
        return logits, batch.targets
    # Position i tells token i + 1.
    return logits[:, :-1].flatten(0, 1), batch.targets[:, 1:].flatten()


@contextmanager
def precision(model: torch.nn.Module) -> Iterator[None]:
    """Within it, a model whose frozen weights are bf16 computes in bf16 and keeps its f32 parameters f32."""
    frozen = next(value for value in model.parameters() if not value.requires_grad)
    with torch.autocast(frozen.device.type, dtype=torch.bfloat16, enabled=frozen.dtype == torch.bfloat16):
        yield


def mean_loss(model: torch.nn.Module, batch: Batch) -> Tensor:
    """Over the batch's answer tokens, or its examples."""
    logits, targets = forward(model, batch)
    return functional.cross_entropy(logits, targets, ignore_index=IGNORED)


def mean_losses(model: torch.nn.Module, batch: Batch, times: int) -> Tensor:
    """The mean loss of each part [times] of a batch that was repeated."""
    logits, targets = forward(model, batch)
    losses = functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")
    return losses.view(times, -1).sum(1) / (batch.n_targets // times)
