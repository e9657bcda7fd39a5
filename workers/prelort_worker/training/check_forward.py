"""Runs a model on its data once after loading, so that what it cannot do is reported before the first round."""

from dataclasses import replace

import torch

from ..errors import InputError
from ..prepared_dataset import PreparedDataset
from .batches import Batch, collate, forward, precision
from .buffers import copy_buffers, owner_of, restore_buffers
from .nested_lora import NestedLora, activate, set_training
from .repeatable import needs_no_others

# Far above rounding errors of float32 and bfloat16 logits, far below the effect of another text's tokens.
_TOLERANCE = 0.05


@torch.no_grad()
def check_forward(nested: NestedLora, dataset: PreparedDataset) -> NestedLora:
    """
    Runs two training examples, and a packed one if there is any; raises InputError if that fails. Does not check
    truncations per example, which depend on the objective, not known yet. Returns the model with what training must
    know of it: the module types to keep in evaluation mode and, on a GPU, whether deterministic operators are enough.
    """
    if dataset.n_clients == 0:
        return nested
    before = copy_buffers(nested.model)
    activate(nested, nested.tiers[-1])
    nested.model.eval()
    examples = [*next(dataset.training())][:2]
    batch = collate(nested.task, dataset, examples, nested.device)
    _, losses = forward(nested, batch)
    if losses.dim() != 1 or len(losses) % len(batch) != 0:
        raise InputError(
            f"{type(nested.task).__name__}.losses: expected one dimension, as many losses for each of {len(batch)} "
            f"examples, got shape {list(losses.shape)}",
            "model.task",
        )
    training = (index for own in dataset.training() for index in own)
    packed = next((index for index in training if _starts(dataset, index)), None)
    if packed is not None:
        _check_packing(nested, dataset, packed)
    restore_buffers(nested.model, before)
    return _with_still_modules(nested, batch)


def _with_still_modules(nested: NestedLora, batch: Batch) -> NestedLora:
    """Finds the module types that change their buffers, by one pass in training mode."""
    before = copy_buffers(nested.model)
    set_training(nested)
    forward(nested, batch)
    nested.model.eval()
    changed = restore_buffers(nested.model, before)
    nested = replace(nested, still=nested.still | {type(owner_of(nested.model, name)) for name in changed})
    if nested.device.type != "cuda":  # elsewhere attention adds up in one order anyway
        return nested
    set_training(nested)
    nested = replace(nested, is_strict=needs_no_others(nested, batch))
    nested.model.eval()
    return nested


def _starts(dataset: PreparedDataset, index: int) -> list[int]:
    """Where the pieces of a packed example start, except the first."""
    if "positions" not in dataset.fields:
        return []
    return (dataset.value("positions", index) == 0).nonzero().flatten().tolist()[1:]


def _check_packing(nested: NestedLora, dataset: PreparedDataset, index: int) -> None:
    """The outputs of a packed row's later pieces must not change without its first piece."""
    row = collate(nested.task, dataset, [index], nested.device).tensors
    start = _starts(dataset, index)[0]
    alone = {name: value[:, start:] for name, value in row.items()}
    packed, single = (_logits(nested, tensors) for tensors in (row, alone))
    difference = (packed[:, start:] - single).abs().max().item()
    if difference > _TOLERANCE * single.abs().max().clamp(min=1).item():
        raise InputError(
            f"this model does not keep packed examples apart (logits differ by {difference:.3g}); leave packing out",
            "data.packing",
        )


def _logits(nested: NestedLora, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    with precision(nested):
        return nested.task.forward(nested.model, tensors).logits.float()
