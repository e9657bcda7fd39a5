"""The sections of a run's config that travel, as src/protocol/specs.ts has them."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from .validation import Count, Positive

Objective: TypeAlias = Literal["none", "sum", "sampled", "stratified"]


@dataclass(frozen=True)
class ModelSpec:
    name_or_path: str
    # Of a name on the hub: a branch, tag or commit.
    revision: str | None
    # A built-in task, or `module:Class`.
    task: str
    # Searched first for that module.
    task_folder: str | None
    pooling: Literal["mean"] | None
    dtype: Literal["f32", "bf16"]
    attention: str | None
    quantization: Literal["8bit", "4bit"] | None
    # Whether to run the model repository's own code.
    trust_remote_code: bool
    # As transformers names what a classifier's head predicts; None: one label.
    problem_type: Literal["multi_label_classification", "regression"] | None = None


@dataclass(frozen=True)
class LoraSpec:
    r: Positive
    tiers: list[Positive]
    scale: float
    # PEFT's own choice for the architecture, "all-linear", a regular expression, or names.
    target_modules: str | list[str] | None
    # The task's heads where none are named.
    modules_to_save: list[str] | None
    lora_dropout: float


@dataclass(frozen=True)
class PartitionSpec:
    name: Literal["iid", "dirichlet", "size", "pathological", "value", "files"]
    by: str | None
    alpha: float | None
    min_examples: Positive
    shares: list[float] | None
    per_client: Positive | None


@dataclass(frozen=True)
class DataSpec:
    path: str
    subset: str | None
    split: str | None
    # Source of the examples held out from all, where that is not `path` and `split`.
    eval_path: str | None
    eval_split: str | None
    text: str | None
    label: str | None
    prompt: str | None
    answer: str | None
    messages: str | None
    image: str | None
    chat: bool
    max_length: Positive
    packing: bool
    max_examples: Positive | None
    eval_examples: Count
    client_eval_examples: Count
    # None: the partition decides.
    clients: Positive | None
    partition: PartitionSpec
    # Between the labels of one cell of text; None: ";".
    label_separator: str | None = None


@dataclass(frozen=True)
class AdamW:
    name: Literal["adamw", "adamw_8bit"]
    betas: list[float]
    eps: float
    weight_decay: float


@dataclass(frozen=True)
class Sgd:
    name: Literal["sgd"]
    momentum: float
    nesterov: bool
    weight_decay: float


@dataclass(frozen=True)
class Adafactor:
    name: Literal["adafactor"]
    weight_decay: float


# As PyTorch has it, without weight decay.
ADAMW = AdamW("adamw", [0.9, 0.999], 1e-8, 0.0)


@dataclass(frozen=True)
class FitSpec:
    objective: Objective
    full_weight: float | None
    local_steps: Count
    batch_size: Positive
    gradient_accumulation_steps: Positive
    gradient_checkpointing: bool
    group_by_length: bool
    # Of A, and of B.
    lr: float
    lr_b: float
    head_lr: float
    freeze_a: bool
    tail_penalty: float
    # Largest joint L2 norm of a step's gradients, over all trained parameters; 0 clips nothing.
    max_grad_norm: float = 0.0
    # Components that train, ascending from 0; the others of the client's rank only act. None: all.
    components: list[Count] | None = None
    # Share of the steps in which what is merged acts.
    acting_tail: float = 1.0
    optimizer: AdamW | Sgd | Adafactor = ADAMW
    # keep: the optimizer goes on from the task's `state`, if it has one, and its own comes back with the update.
    client_state: Literal["new", "keep"] = "new"
    # First steps, over which the rates rise in equal steps to their full values.
    warmup_steps: Count = 0
    # Share of a target that is spread over all classes.
    label_smoothing: float = 0.0
    # Of NEFTune's noise on token embeddings; 0 for none.
    neftune_alpha: float = 0.0
    # μ of the penalty μ/2 · ‖w − w_received‖² over the trained parameters.
    proximal_mu: float = 0.0
