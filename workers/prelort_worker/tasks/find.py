"""The task that a config names."""

import sys
from hashlib import sha256
from importlib import import_module
from inspect import getsourcefile
from pathlib import Path

import torch

from ..errors import InputError
from ..messages import ModelSpec
from .task import Task


def find_task(model: ModelSpec, device: torch.device) -> Task:
    """A built-in task, or `module:Class`, whose module is looked for in the config's folder first."""
    if ":" in model.task:
        return _import(model)(model, device)
    if model.task == "causal-lm":
        from .causal_lm import CausalLm

        return CausalLm(model, device)
    if model.task == "seq2seq-lm":
        from .seq2seq_lm import Seq2SeqLm

        return Seq2SeqLm(model, device)
    if model.task == "sequence-classification":
        from .sequence_classification import SequenceClassification

        return SequenceClassification(model, device)
    if model.task == "image-classification":
        from .image_classification import ImageClassification

        return ImageClassification(model, device)
    raise InputError(f"there is no task {model.task!r}", "model.task")


def source_sha256(task: Task) -> str | None:
    """Of a task of one's own: what it makes of data changes with it."""
    file = getsourcefile(type(task))
    return sha256(Path(file).read_bytes()).hexdigest() if file and ":" in task.model.task else None


def _import(model: ModelSpec) -> type[Task]:
    module_name, _, class_name = model.task.partition(":")
    if model.task_folder is not None and model.task_folder not in sys.path:
        sys.path.insert(0, model.task_folder)
    try:
        found = getattr(import_module(module_name), class_name, None)
    except Exception as error:  # whatever its own code raises
        where = f" (looked for in {model.task_folder} first)" if isinstance(error, ModuleNotFoundError) else ""
        raise InputError(
            f"module {module_name} cannot be imported{where}: {type(error).__name__}: {error}", "model.task"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise InputError(
            f"module {module_name} has no class {class_name} that is a prelort_worker.tasks.Task", "model.task"
        )
    return found
