"""What keeps a fit from following its own examples too closely, besides weight decay and dropout."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..wire.specs import FitSpec
from .nested_lora import NestedLora


@contextmanager
def regularised(nested: NestedLora, spec: FitSpec) -> Iterator[None]:
    """Within the block, the model and its loss are those of training: smoothed labels, and noise on the embeddings."""
    _check_smoothing(nested, spec)
    nested.task.label_smoothing = spec.label_smoothing
    noise = _embeddings(nested).register_forward_hook(_noise(spec.neftune_alpha)) if spec.neftune_alpha > 0 else None
    try:
        yield
    finally:
        nested.task.label_smoothing = 0.0
        if noise:
            noise.remove()


def pull(values: Sequence[nn.Parameter], received: Sequence[Tensor], mu: float) -> None:
    """Adds the gradient of FedProx's μ/2 · ‖w − w_received‖² (Li et al., arXiv 1812.06127)."""
    for value, start in zip(values, received, strict=True):
        if value.grad is not None:
            value.grad.add_(value.detach() - start, alpha=mu)


def _check_smoothing(nested: NestedLora, spec: FitSpec) -> None:
    losses = type(nested.task).losses
    if spec.label_smoothing > 0 and not losses.__module__.startswith("prelort_worker."):
        raise InputError(
            f"does not reach {losses.__qualname__}, which is your own: smooth the labels there, and set it to 0",
            "fit.label_smoothing",
        )


def _noise(alpha: float):
    """
    NEFTune (Jain et al., arXiv 2310.05914): uniform noise of at most alpha / √(tokens · size) on a
    batch's embeddings [batch, tokens, size], padding included.
    """

    def apply(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        most = alpha / math.sqrt(output.shape[1] * output.shape[2])
        return output + torch.zeros_like(output).uniform_(-most, most)

    return apply


def _embeddings(nested: NestedLora) -> nn.Module:
    base = nested.model.get_base_model()
    get = getattr(base, "get_input_embeddings", None)
    found = get() if get else None
    if isinstance(found, nn.Module):
        return found
    raise InputError(f"needs token embeddings, and {type(base).__name__} has none: set it to 0", "fit.neftune_alpha")
