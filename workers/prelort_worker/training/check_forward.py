"""A model on its data once, before any training: what it cannot do is told at once, and not in the first round."""

from dataclasses import replace

import torch

from ..errors import InputError
from ..prepared_dataset import Index
from .batches import Batch, collate, forward, precision
from .buffers import copy_buffers, owner_of, restore_buffers
from .nested_lora import NestedLora, activate, set_training

# Far above what rounding does to float32 and bfloat16 logits, far below what another text's tokens do.
_TOLERANCE = 0.05


@torch.no_grad()
def probe(nested: NestedLora, index: Index) -> NestedLora:
    """
    Two training examples, and one that is packed; raises InputError where that cannot be. Without truncations: whether
    each example has to have its own is for the objective, which is not known yet. Returns the model with what its
    training has to keep still.
    """
    if not index.info.clients:
        return nested
    before = copy_buffers(nested.model)
    activate(nested, nested.tiers[-1])
    nested.model.eval()
    examples = [*index.of_client(index.info.clients[0].id)][:2]
    batch = collate(nested.task, index, examples, nested.device)
    _, losses = forward(nested, batch)
    if losses.dim() != 1 or len(losses) % len(batch) != 0:
        raise InputError(
            f"{type(nested.task).__name__}.losses: expected one dimension, as many losses for each of {len(batch)} "
            f"examples, got shape {list(losses.shape)}",
            "model.task",
        )
    training = (place for client in index.info.clients for place in index.of_client(client.id))
    packed = next((place for place in training if _starts(index, place)), None)
    if packed is not None:
        _check_packing(nested, index, packed)
    restore_buffers(nested.model, before)
    return _with_still_modules(nested, batch)


def _with_still_modules(nested: NestedLora, batch: Batch) -> NestedLora:
    """Finds, by one pass in training mode, the kinds of module that would change their buffers."""
    before = copy_buffers(nested.model)
    set_training(nested)
    forward(nested, batch)
    nested.model.eval()
    changed = restore_buffers(nested.model, before)
    return replace(nested, still=nested.still | {type(owner_of(nested.model, name)) for name in changed})


def _starts(index: Index, place: int) -> list[int]:
    """Where the pieces of a packed example begin that are not its first."""
    if "positions" not in index.fields:
        return []
    return (index.value("positions", place) == 0).nonzero().flatten().tolist()[1:]


def _check_packing(nested: NestedLora, index: Index, place: int) -> None:
    """What a packed row's later pieces give must not change when its first is not there."""
    row = collate(nested.task, index, [place], nested.device).tensors
    start = _starts(index, place)[0]
    alone = {name: value[:, start:] for name, value in row.items()}
    packed, single = (_logits(nested, tensors) for tensors in (row, alone))
    difference = (packed[:, start:] - single).abs().max().item()
    if difference > _TOLERANCE * single.abs().max().clamp(min=1).item():
        raise InputError(
            f"this model lets packed examples see one another (logits differ by {difference:.3g}); leave packing out",
            "data.packing",
        )


def _logits(nested: NestedLora, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    with precision(nested):
        return nested.task.forward(nested.model, tensors).logits.float()
