"""A model on its data once, before any training: what it cannot do is told at once, and not in the first round."""

import torch

from .batches import collate, forward
from .errors import InputError
from .index import Index
from .nested_lora import NestedLora, activate, truncated

# Far above what rounding does to float32 and bfloat16 logits, far below what another text's tokens do.
_TOLERANCE = 0.05


@torch.no_grad()
def probe(nested: NestedLora, index: Index) -> None:
    """Two training examples at truncations of their own; raises InputError where that cannot be."""
    if not index.info.clients:
        return
    examples = [*index.of_client(index.info.clients[0].id)][:2]
    r = nested.tiers[-1]
    activate(nested, r)
    nested.model.eval()
    batch = collate(nested.task, index, examples, nested.device)
    with truncated(nested, r, [nested.tiers[place % len(nested.tiers)] for place in range(len(batch))]):
        _, losses = forward(nested, batch)
    if losses.dim() != 1 or len(losses) % len(batch) != 0:
        raise InputError(
            f"{type(nested.task).__name__}.losses: expected one dimension, as many losses for each of {len(batch)} "
            f"examples, got shape {list(losses.shape)}",
            "model.task",
        )
    if "position_ids" in batch.tensors:
        _check_packing(nested, {name: value[:1] for name, value in batch.tensors.items()})


def _check_packing(nested: NestedLora, row: dict[str, torch.Tensor]) -> None:
    """What a packed row's last piece gives must not change when the pieces before it do."""
    positions = row["position_ids"][0]
    starts = (positions == 0).nonzero().flatten().tolist()
    if len(starts) < 2:
        return
    start = starts[1]
    alone = {name: value[:, start:] for name, value in row.items()}
    packed, single = (forward_logits(nested, tensors) for tensors in (row, alone))
    difference = (packed[:, start:] - single).abs().max().item()
    if difference > _TOLERANCE * single.abs().max().clamp(min=1).item():
        raise InputError(
            f"this model lets packed examples see one another (logits differ by {difference:.3g}); leave packing out",
            "data.packing",
        )


def forward_logits(nested: NestedLora, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    return nested.task.forward(nested.model, tensors).logits.float()
