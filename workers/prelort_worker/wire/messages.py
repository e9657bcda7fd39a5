"""
The messages of src/protocol/messages.ts as dataclasses; a message that differs is refused, naming the key.

Longer than other files, since it is one list of declarations.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from .fields import Dtype, ExamplesDescriptor, KeptDescriptor, PartName, TableDescriptor, TensorDescriptor
from .generation_messages import Generate, Generated, Text
from .launcher_messages import Exited, Kill, Launch, Placed, Waiting
from .specs import DataSpec, FitSpec, LoraSpec, ModelSpec
from .validation import Count, Positive, RecordError, describe, from_map, to_map

PROTOCOL_VERSION = 15

Examples: TypeAlias = Literal["global", "client", "train"]
# Why a task failed: the user has to fix something; it was cancelled; the prepared data is not on this machine; the
# memory of another worker could not be read; anything else.
ErrorKind: TypeAlias = Literal["input", "cancelled", "unprepared", "unshared", "failed"]
# What is told of each example, see src/protocol/README.md; the first two always.
ExampleColumn: TypeAlias = Literal[
    "loss",
    "targets",
    "bytes",
    "predicted",
    "actual",
    "confidence",
    "true_positives",
    "predicted_positives",
    "actual_positives",
    "predicted_value",
    "actual_value",
    "rouge_l",
]
SourcePart: TypeAlias = Literal["weights", "tokenizer", "config", "code"]


@dataclass(frozen=True)
class IndexFile:
    path: str
    sha256: str


@dataclass(frozen=True)
class SourceFile:
    """A file that determines what a model computes; for code, a module in the task's folder."""

    part: SourcePart
    name: str
    bytes: Count
    sha256: str


@dataclass(frozen=True)
class Source:
    """What a model consists of."""

    # The commit a hub name resolved to.
    commit: str | None
    files: list[SourceFile]


@dataclass(frozen=True)
class Prepare:
    task_id: str
    attempt: Positive
    seed: str
    model: ModelSpec
    lora: LoraSpec
    data: DataSpec
    cache_dir: str
    # Of the span that asked for it, as W3C's Trace Context spells it; None if nothing is traced. So in every task.
    traceparent: str | None = None


@dataclass(frozen=True)
class Load:
    task_id: str
    attempt: Positive
    seed: str
    model: ModelSpec
    lora: LoraSpec
    # None: without data; only `generate` may follow.
    index: IndexFile | None
    # Of a model without data, in the order of their numbers; otherwise empty.
    labels: list[str]
    cache_dir: str
    traceparent: str | None = None


@dataclass(frozen=True)
class Basis:
    """What a partial sum is a sum of."""

    round: Positive
    # SHA-256 of the file of the adapter that the round's fits start from.
    adapter: str
    # A value x counts as the integer nearest to x·weight·resolution; a power of two.
    resolution: float


@dataclass(frozen=True)
class PartialSumSpec:
    basis: Basis
    # Largest |value| that an update may have.
    largest: float
    needs_norm: bool


@dataclass(frozen=True)
class Fit:
    task_id: str
    attempt: Positive
    round: Positive
    client_id: str
    r: Positive
    scale: float
    seed: str
    fit: FitSpec
    update_dtype: Dtype
    tensors: list[TensorDescriptor]
    # None: the update is sent with the reply.
    partial_sum: PartialSumSpec | None = None
    traceparent: str | None = None


@dataclass(frozen=True)
class Grant:
    """Adds the update of a fit to the partial sum with this weight; None: forgets it."""

    task_id: str
    attempt: Positive
    weight: float | None


@dataclass(frozen=True)
class Collect:
    """Asks for the sum of all updates granted since the last one."""

    task_id: str
    attempt: Positive
    basis: Basis
    dtype: Literal["F64", "packed"]
    traceparent: str | None = None


@dataclass(frozen=True)
class Evaluate:
    task_id: str
    attempt: Positive
    round: Count
    examples: Examples
    client_id: str | None
    ranks: list[Positive]
    scale: float
    start: Count
    count: Positive
    batch_size: Positive
    max_new_tokens: Count
    tensors: list[TensorDescriptor]
    traceparent: str | None = None
    # How many of the range's first examples to tell, with their generated answers.
    samples: Count = 0


@dataclass(frozen=True)
class Keep:
    """Has this worker keep bytes in a file in memory, which it lends to the workers of its machine."""

    task_id: str
    attempt: Positive
    # Counted from 0.
    file: Count
    # Of the whole file: it is made, or cut, to this size.
    size: Count
    # Where the bytes go.
    offset: Count
    tensors: list[KeptDescriptor]


@dataclass(frozen=True)
class Cancel:
    task_id: str
    attempt: Positive


@dataclass(frozen=True)
class Stop:
    pass


@dataclass(frozen=True)
class Chunk:
    task_id: str
    attempt: Positive
    tensor: PartName
    offset: Count
    # In a frame of its own.
    data: memoryview


@dataclass(frozen=True)
class End:
    task_id: str
    attempt: Positive


@dataclass(frozen=True)
class Credit:
    bytes: Positive


@dataclass(frozen=True)
class Device:
    type: str
    name: str
    # Instruction set in use: torch's name for a CPU's, the compute capability of a CUDA device.
    capability: str | None
    memory_bytes: Count | None


@dataclass(frozen=True)
class Challenge:
    """To be answered by a connection over tcp that wants to join."""

    nonce: bytes


@dataclass(frozen=True)
class Join:
    """The first message over tcp: claims the connection for this worker, which its proof then confirms."""

    worker_id: str


@dataclass(frozen=True)
class Proof:
    """The answer to a challenge; see keys.py."""

    proof: bytes


@dataclass(frozen=True)
class Hello:
    pid: Positive
    versions: dict[str, str]
    # Environment variables that select kernels.
    variables: dict[str, str]
    device: Device
    threads: Positive
    shares_memory: bool
    # The machine's name.
    host: str
    # Workers with the same value can read one another's memory; None if this one cannot share any.
    memory: str | None


@dataclass(frozen=True)
class Unavailable:
    """In place of hello: the device is not there, or cannot be used. The worker then only waits for its end."""

    message: str


@dataclass(frozen=True)
class Beat:
    activity: str
    task_id: str | None
    step: Count
    steps: Count


@dataclass(frozen=True)
class TallyColumns:
    """Counts by key, of every client: the numbers of pairs of each, then all pairs. Columns are as in ClientColumns."""

    sizes: bytes
    keys: bytes
    counts: bytes


@dataclass(frozen=True)
class ClientColumns:
    """What is known of all clients. A column is an unsigned 32-bit number for each, little-endian."""

    ids: list[str]
    n: bytes
    n_eval: bytes
    # Of the training examples.
    n_tokens: bytes
    n_truncated: bytes
    # By index of the label, ascending.
    label_counts: TallyColumns
    # By index in `values`: those of the partition's column, or of the label, in the training examples; the most
    # frequent first.
    mix: TallyColumns
    values: list[str]


@dataclass(frozen=True)
class Prepared:
    task_id: str
    attempt: Positive
    index: IndexFile
    # Covers everything that the examples were made from: files, and files that rows name.
    data_sha256: str
    # A JSON file that lists every file this answer and `loaded` depend on; see README.md.
    sources: IndexFile | None
    labels: list[str]
    n_eval: Count
    n_truncated: Count
    # Warnings about data that can be used all the same.
    remarks: list[str]
    tensors: list[TableDescriptor]


@dataclass(frozen=True)
class ModuleShape:
    """`in_` stands for the wire's `in`, which is a keyword of Python."""

    name: str
    in_: Positive
    out: Positive


@dataclass(frozen=True)
class DenseShape:
    name: str
    shape: list[Positive]


@dataclass(frozen=True)
class LeftOut:
    """Weights without an adapter: modules of one type whose names differ only in numbers."""

    name: str
    kind: str
    count: Positive
    parameters: Count


@dataclass(frozen=True)
class Loaded:
    task_id: str
    attempt: Positive
    modules: list[ModuleShape]
    dense: list[DenseShape]
    n_parameters: Count
    # For adapter_config.json.
    peft_type: str | None
    modules_to_save: list[str]
    left_out: list[LeftOut]
    source: Source
    tensors: list[TensorDescriptor]


@dataclass(frozen=True)
class Fitted:
    task_id: str
    attempt: Positive
    client_id: str
    r: Positive
    scale: float
    n: Positive
    steps: Count
    passes: Count
    loss: float | None
    rms_loss: float | None
    seconds: float
    # Of the device; on a CPU, of the process.
    peak_memory_bytes: Count | None
    tensors: list[TensorDescriptor]
    # Mean over the steps of the gradients' joint L2 norm before clipping; None where nothing is clipped.
    grad_norm: float | None = None
    # ‖Δ‖₂ of the update, over rows and dense together; None unless it was asked for.
    norm: float | None = None


@dataclass(frozen=True)
class Member:
    """A fit whose update is in a partial sum."""

    task_id: str
    attempt: Positive


@dataclass(frozen=True)
class Collected:
    task_id: str
    attempt: Positive
    basis: Basis
    members: list[Member]
    tensors: list[TensorDescriptor]


@dataclass(frozen=True)
class Kept:
    """The bytes are in this file of the worker's process."""

    task_id: str
    attempt: Positive
    fd: Count


@dataclass(frozen=True)
class Sample:
    prompt: str
    reference: str
    # In the order of the asked ranks.
    answers: list[str]


@dataclass(frozen=True)
class Evaluated:
    task_id: str
    attempt: Positive
    # What the rows of the tensor `examples` are: prelort's columns, in the order of `ExampleColumn`, then the task's
    # own metrics by name.
    columns: list[ExampleColumn]
    metrics: list[str]
    seconds: float
    tensors: list[ExamplesDescriptor]
    samples: list[Sample] = field(default_factory=list)


@dataclass(frozen=True)
class Problem:
    """A problem that the user has to fix; `option` is the config key, where it is known."""

    option: str | None
    message: str


@dataclass(frozen=True)
class ErrorReport:
    kind: ErrorKind
    # Of "failed", with the name of what was raised before it: `ValueError: …`.
    message: str
    traceback: str
    problems: list[Problem]


@dataclass(frozen=True)
class Failure:
    task_id: str
    attempt: Positive
    error: ErrorReport


ControllerMessage: TypeAlias = (
    Prepare
    | Load
    | Fit
    | Grant
    | Collect
    | Evaluate
    | Generate
    | Keep
    | Challenge
    | Launch
    | Kill
    | Cancel
    | Stop
    | Chunk
    | End
    | Credit
)
WorkerMessage: TypeAlias = (
    Join
    | Proof
    | Hello
    | Unavailable
    | Beat
    | Prepared
    | Loaded
    | Fitted
    | Collected
    | Evaluated
    | Text
    | Generated
    | Kept
    | Placed
    | Exited
    | Waiting
    | Failure
    | Chunk
    | End
    | Credit
)
TaskMessage: TypeAlias = Prepare | Load | Fit | Collect | Evaluate | Generate
TaskReply: TypeAlias = Prepared | Loaded | Fitted | Collected | Evaluated | Generated | Failure
# What the main thread of a worker sends; heartbeats and chunks come from the thread of its connection.
Report: TypeAlias = Hello | Unavailable | Text | TaskReply

_TYPES: dict[str, type] = {
    cls.__name__.lower(): cls for cls in (*get_args(ControllerMessage), *get_args(WorkerMessage))
}


def to_wire(message: ControllerMessage | WorkerMessage) -> dict[str, Any]:
    """The map to send. Refuses what the other side would refuse, such as a number that is not finite."""
    name = type(message).__name__.lower()
    body = to_map(message)
    from_map(type(message), body, name)
    return {"type": name, "protocol_version": PROTOCOL_VERSION, **body}


def from_wire(value: Any) -> ControllerMessage | WorkerMessage:
    if not isinstance(value, dict):
        raise RecordError(f"message: expected a map, got {describe(value)}")
    body = dict(value)
    name = body.pop("type", None)
    cls = _TYPES.get(name) if isinstance(name, str) else None
    if cls is None:
        raise RecordError(f"message.type: expected one of {', '.join(_TYPES)}, got {describe(name)}")
    version = body.pop("protocol_version", None)
    if version != PROTOCOL_VERSION:
        raise RecordError(f"{name}.protocol_version: expected {PROTOCOL_VERSION}, got {describe(version)}")
    return from_map(cls, body, str(name))
