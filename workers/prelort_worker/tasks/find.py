"""Finds the task that a config names."""

import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import torch

from ..errors import InputError
from ..wire.specs import ModelSpec
from .task import Task


def find_task(model: ModelSpec, device: torch.device) -> Task:
    """A built-in task, or `module:Class`, whose module is searched in the config's folder first."""
    if ":" in model.task:
        return _import(model)(model, device)
    if model.task == "causal-lm":
        from .causal_lm import CausalLm

        return CausalLm(model, device)
    if model.task == "seq2seq-lm":
        from .seq2seq_lm import Seq2SeqLm

        return Seq2SeqLm(model, device)
    if model.task == "sequence-classification":
        if model.problem_type == "multi_label_classification":
            from .multi_label import MultiLabelClassification

            return MultiLabelClassification(model, device)
        if model.problem_type == "regression":
            from .regression import SequenceRegression

            return SequenceRegression(model, device)
        from .sequence_classification import SequenceClassification

        return SequenceClassification(model, device)
    if model.task == "image-classification":
        from .image_classification import ImageClassification

        return ImageClassification(model, device)
    raise InputError(f"there is no task {model.task!r}", "model.task")


def _import(model: ModelSpec) -> type[Task]:
    module_name, _, class_name = model.task.partition(":")
    try:
        found = getattr(_module(module_name, model.task_folder), class_name, None)
    except Exception as error:  # the module may raise anything
        where = f" (looked for in {model.task_folder} first)" if isinstance(error, ModuleNotFoundError) else ""
        raise InputError(
            f"module {module_name} cannot be imported{where}: {type(error).__name__}: {error}", "model.task"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise InputError(
            f"module {module_name} has no class {class_name} that is a prelort_worker.tasks.Task", "model.task"
        )
    return found


def _module(name: str, folder: str | None) -> ModuleType:
    """
    Loads the file under a unique name, so that one called datasets.py is found and shadows nothing; inside a package it
    may use relative imports. Its other imports search its folder last.
    """
    if folder is None:
        return import_module(name)
    if folder not in sys.path:
        sys.path.append(folder)
    file = Path(folder, *name.split(".")).with_suffix(".py")
    package, _, last = name.rpartition(".")
    spec = spec_from_file_location(f"{package}.task_of_ones_own_{last}".lstrip("."), file)
    if not file.is_file() or spec is None or spec.loader is None:
        return import_module(name)
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
