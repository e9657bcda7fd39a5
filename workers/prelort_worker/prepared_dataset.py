"""
The prepared data: one safetensors file that every worker maps into memory.

Examples are stored in this order: those held out from all clients, then for each client its training examples and its
own held-out ones. An example is what the task made of a row: tensors by name, such as `input_ids`. Each name is one
tensor of the file: stacked as [examples, …] where all examples have the same shape, otherwise concatenated as
[total, …], with the offsets in `NAME.starts` [examples + 1]. `.lengths` [examples] serves to group batches by length;
`.clients` [2 · clients + 1] holds the offsets of each client's training and held-out examples. What else is known of
the clients is in columns, see client_table.py; everything else is in the file's metadata.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .client_table import ClientTable, Numbers, client_index, no_table, take_tensors, to_tensors
from .errors import InputError, UnpreparedError
from .files.file_hashes import file_sha256
from .files.private_file import write_private_file

FORMAT_VERSION = 8
# Names of an example's fields contain no dot.
_LENGTHS, _CLIENTS = ".lengths", ".clients"

Example = Mapping[str, Tensor]


@dataclass(frozen=True)
class DatasetInfo:
    task: str
    labels: list[str]
    n_truncated: int
    pad_token_id: int
    # SHA-256 of the modules of a custom task: when they change, so does the dataset, and a run cannot be resumed on it.
    source: str | None = None
    # Warnings about data that can be used all the same.
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class PreparedDataset:
    info: DatasetInfo
    fields: dict[str, Tensor]
    lengths: Tensor
    clients: Tensor
    table: ClientTable

    @property
    def n_clients(self) -> int:
        return (len(self.clients) - 1) // 2

    def sizes(self) -> Numbers:
        """The number of examples held out from all, then of each client's training and held-out examples."""
        return np.diff(self.clients.numpy(), prepend=0)

    @property
    def held_out(self) -> range:
        """Examples held out from all clients, on which the global adapter is evaluated."""
        return range(int(self.clients[0]))

    def of_client(self, client_id: str) -> range:
        """The client's training examples."""
        return self._range(2 * self._client_index(client_id))

    def held_out_of(self, client_id: str) -> range:
        """The client's own held-out examples."""
        return self._range(2 * self._client_index(client_id) + 1)

    def example(self, index: int) -> dict[str, Tensor]:
        return {name: self.value(name, index) for name in self.fields if not name.endswith(".starts")}

    def value(self, name: str, index: int) -> Tensor:
        starts = self.fields.get(f"{name}.starts")
        if starts is None:
            return self.fields[name][index]
        return self.fields[name][int(starts[index]) : int(starts[index + 1])]

    def length(self, index: int) -> int:
        return int(self.lengths[index])

    def training(self) -> Iterator[range]:
        """The training examples of every client."""
        return (self._range(2 * index) for index in range(self.n_clients))

    def _client_index(self, client_id: str) -> int:
        index = client_index(client_id, self.n_clients)
        if index is None:
            raise ValueError(f"the prepared data has no client {client_id!r}; it has {self.n_clients} clients")
        return index

    def _range(self, index: int) -> range:
        return range(int(self.clients[index]), int(self.clients[index + 1]))


def make_dataset(
    info: DatasetInfo,
    examples: Sequence[Example],
    lengths: Sequence[int] | Numbers,
    sizes: Sequence[int] | Numbers,
    table: ClientTable | None = None,
) -> PreparedDataset:
    """`sizes`: the number of examples held out from all, then of each client's training and held-out examples."""
    fields: dict[str, Tensor] = {}
    for name in _names(examples):
        values = [example[name] for example in examples]
        shapes = {value.shape for value in values}
        if len(shapes) == 1:
            fields[name] = torch.stack(values)
        elif len({(len(shape), shape[1:]) for shape in shapes}) > 1 or torch.Size() in shapes:
            a, b = sorted(shapes)[:2]
            raise InputError(
                f"{name}: expected shapes that differ only in the first dimension, got {list(a)} and {list(b)}",
                "model.task",
            )
        else:
            fields[name] = torch.cat(values)
            fields[f"{name}.starts"] = torch.tensor([0, *map(len, values)]).cumsum(0)
    table = table or no_table(len(sizes) // 2)
    return PreparedDataset(info, fields, torch.tensor(lengths), torch.tensor(sizes).cumsum(0), table)


def _names(examples: Sequence[Example]) -> list[str]:
    names = list(examples[0]) if examples else []
    for example in examples:
        if example.keys() != set(names):
            a, b = (", ".join(sorted(each)) for each in (names, example))
            raise InputError(f"an example has {a}, another has {b}; expected the same fields in all", "model.task")
    for name in names:
        if "." in name:
            raise InputError(f"an example has {name!r}: expected a name without a dot", "model.task")
    return names


def write_dataset(path: Path, dataset: PreparedDataset) -> None:
    """Readable by its owner only, since the data may be private."""
    tensors = _tensors(dataset)
    # A single metadata key, since the order of several differs between processes.
    metadata = {"prelort": json.dumps({**asdict(dataset.info), "content": _checksum(tensors)}, sort_keys=True)}
    write_private_file(path, save(tensors, metadata))


def read_dataset(path: Path) -> PreparedDataset:
    """Maps the file and verifies its checksum; raises InputError if it is damaged."""
    dataset, content = _map(path)
    if content != _checksum(_tensors(dataset)):
        raise InputError(f"{path}: its content does not match its checksum")
    return dataset


def open_dataset(path: Path, expected_sha256: str, cache_dir: Path | None = None) -> PreparedDataset:
    """The dataset that the controller named. Raises UnpreparedError if there is none, InputError if it has changed."""
    if not path.is_file():
        raise UnpreparedError(f"{path}: the prepared dataset does not exist on this machine")
    found = file_sha256(path, cache_dir)
    if found != expected_sha256:
        raise InputError(f"{path}: expected sha256 {expected_sha256}, got {found}; prepare the data again")
    return _map(path)[0]  # the hash has verified its content


def _tensors(dataset: PreparedDataset) -> dict[str, Tensor]:
    return {**dataset.fields, _LENGTHS: dataset.lengths, _CLIENTS: dataset.clients, **to_tensors(dataset.table)}


def _map(path: Path) -> tuple[PreparedDataset, str]:
    """The dataset, and the checksum of its content as recorded in the file."""
    try:
        with safe_open(path, framework="pt") as file:
            info = json.loads(file.metadata()["prelort"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        content = info.pop("content")
        lengths, clients, table = tensors.pop(_LENGTHS), tensors.pop(_CLIENTS), take_tensors(tensors)
        return PreparedDataset(DatasetInfo(**info), tensors, lengths, clients, table), content
    except (
        SafetensorError,
        KeyError,
        TypeError,
        ValueError,
    ) as error:  # not OSError
        raise InputError(f"{path}: is not a prepared dataset: {error}") from error


def _checksum(tensors: dict[str, torch.Tensor]) -> str:
    digest = sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
