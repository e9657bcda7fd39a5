"""Tiny wrapped models and prepared data, in memory."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from prelort_worker.errors import Problems
from prelort_worker.prepare.prepare import build_dataset
from prelort_worker.prepared_dataset import PreparedDataset
from prelort_worker.seeds import derive
from prelort_worker.task_runner import Resident, TaskRunner
from prelort_worker.tasks.find import find_task
from prelort_worker.tasks.task import Task
from prelort_worker.training.add_adapters import add_adapters
from prelort_worker.training.build import build_nested
from prelort_worker.training.nested_lora import NestedLora
from prelort_worker.wire.frames import Payload, Tensor
from prelort_worker.wire.messages import Evaluate, Evaluated, Fit, Fitted, Load, Loaded, Prepare, Prepared
from prelort_worker.wire.specs import DataSpec, FitSpec, LoraSpec, ModelSpec
from specs import LORA, SEED, data_spec, model_spec
from sums import Sums, sums_at
from told import Told, told
from transformers import GPT2Config, GPT2LMHeadModel

CPU = torch.device("cpu")


def task_of(model: ModelSpec, folder: Path, **changes: Any) -> Task:
    """The task as prepare has it after its checks."""
    task, problems = find_task(model, CPU), Problems()
    task.check(data_spec(folder, model.task, **changes), problems)
    problems.raise_any()
    return task


@cache
def dataset_of(folder: Path, task: str) -> PreparedDataset:
    data = data_spec(folder, task)
    return build_dataset(task_of(model_spec(folder, task), folder), data, SEED, quiet)


def base_of(folder: Path, task: str, seed: str = SEED) -> Any:
    """The frozen model without adapters."""
    found, info = find_task(model_spec(folder, task), CPU), dataset_of(folder, task).info
    found.labels, found.pad_token_id = info.labels, info.pad_token_id
    torch.manual_seed(derive(seed, "new parameters"))
    return found.build_model()


def tokens_of(dataset: PreparedDataset, index: int) -> torch.Tensor:
    return dataset.value("input_ids", index).long()


def prompt_length(dataset: PreparedDataset, index: int) -> int:
    """The number of tokens before the first trained one."""
    return dataset.value("learned", index).tolist().index(True)


def nested_of(folder: Path, task: str, lora: LoraSpec = LORA, **model: Any) -> NestedLora:
    return build_nested(model_spec(folder, task, **model), lora, dataset_of(folder, task).info, CPU, SEED)


def resident_of(folder: Path, task: str = "causal-lm") -> Resident:
    return Resident(nested_of(folder, task), dataset_of(folder, task))


@dataclass(frozen=True)
class Up:
    """A worker after loading, with everything it reported."""

    runner: TaskRunner
    prepared: Told
    loaded: Loaded
    dense: torch.Tensor

    def adapter(self, r: int) -> Payload:
        """Random rows, and the head as loaded."""
        width = sum(module.in_ + module.out for module in self.loaded.modules)
        rows = torch.randn(r, width, generator=torch.Generator().manual_seed(0)) * 0.1
        return payload(rows=rows, dense=self.dense)

    def fit(self, client_id: str, r: int, spec: FitSpec) -> tuple[Fitted, Payload]:
        task = Fit("f", 1, 1, client_id, r, self.nested.scale, SEED, spec, "F32", [])
        fitted, delta = self.runner.run(task, self.adapter(r), quiet)
        assert isinstance(fitted, Fitted)
        return fitted, delta

    def evaluate(self, ranks: list[int], max_new_tokens: int = 0, batch_size: int = 8) -> list[Sums]:
        count = self.prepared.n_eval
        task = Evaluate("e", 1, 1, "global", None, ranks, self.nested.scale, 0, count, batch_size, max_new_tokens, [])
        evaluated, values = self.runner.run(task, self.adapter(max(ranks)), quiet)
        assert isinstance(evaluated, Evaluated)
        return sums_at(ranks, (evaluated, values))

    @property
    def nested(self) -> NestedLora:
        assert self.runner._resident is not None
        return self.runner._resident.nested

    @property
    def dataset(self) -> PreparedDataset:
        assert self.runner._resident is not None
        return self.runner._resident.dataset


def come_up(model: ModelSpec, lora: LoraSpec, data: DataSpec, cache: Path) -> Up:
    """prepare → load, as in a worker."""
    runner = TaskRunner(CPU)
    reply, table = runner.run(Prepare("p", 1, SEED, model, lora, data, str(cache)), {}, quiet)
    assert isinstance(reply, Prepared)
    prepared = told(reply, table)
    loaded, carried = runner.run(Load("l", 1, SEED, model, lora, prepared.index, [], str(cache)), {}, quiet)
    assert isinstance(loaded, Loaded)
    dense = torch.frombuffer(bytearray(carried["dense"].data), dtype=torch.float32) if carried else torch.zeros(0)
    return Up(runner, prepared, loaded, dense)


def quiet(*_progress: object) -> None:
    pass


def payload(**tensors: torch.Tensor) -> Payload:
    """As received from the wire, without empty tensors."""
    return {
        name: Tensor(tuple(tensor.shape), memoryview(bytearray(tensor.numpy().tobytes())))
        for name, tensor in tensors.items()
        if tensor.numel()
    }  # pyright: ignore[reportReturnType]


def tiny_gpt2() -> GPT2LMHeadModel:
    """A model in which every projection is a Conv1D."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=32, n_embd=32, n_layer=1, n_head=2))


def wrapped_gpt2(lora: LoraSpec) -> NestedLora:
    task = find_task(ModelSpec("gpt2", None, "causal-lm", None, None, "f32", None, None, False), CPU)
    task.modules_to_save = list(lora.modules_to_save or [])
    return add_adapters(tiny_gpt2(), task, lora)


def random_adapter(nested: NestedLora, r: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """The rank-r prefix of an adapter without zeros, the same whatever the model's tiers."""
    size = sum(torch.Size(shape.shape).numel() for shape in nested.dense_shapes)
    rows = [torch.randn(nested.width, generator=torch.Generator().manual_seed(1000 * seed + row)) for row in range(r)]
    return torch.stack(rows) * 0.1, torch.randn(size, generator=torch.Generator().manual_seed(seed)) * 0.1
