"""
The prepared data: one safetensors file that every worker maps into memory.

Examples lie one after the other: first those held out from all, then client by client those it trains on and those
of its own that are held out. An example is what its task has made of a row: tensors by name, such as `input_ids`. Each
name is one tensor of the file: stacked, [examples, …], where all examples have one shape, else one after the other,
[total, …], with `NAME.starts` [examples + 1], where each begins. Beside them `.lengths` [examples], by which batches
of like length are made, and `.clients` [2 · clients + 1], where each client's training and held-out examples begin.
The rest is the file's metadata.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .errors import InputError
from .files.file_hashes import file_sha256
from .files.private_file import write_private_file

INDEX_VERSION = 7
# No field of an example has a dot in its name.
_LENGTHS, _CLIENTS = ".lengths", ".clients"

Example = Mapping[str, Tensor]


@dataclass(frozen=True)
class ClientInfo:
    id: str
    # In what it trains on, in the order of the labels; empty where there are none.
    label_counts: list[int]
    # The values of the column that the partition goes by, or of the label, in what it trains on; the commonest first.
    mix: list[tuple[str, int]]
    # Of what it trains on.
    n_tokens: int
    n_truncated: int


@dataclass(frozen=True)
class IndexInfo:
    task: str
    labels: list[str]
    n_truncated: int
    pad_token_id: int
    clients: list[ClientInfo]
    # SHA-256 of the modules of a task of one's own: with it the index changes, and so a run that is resumed is another.
    source: str | None = None
    # What the user should know of the data, though it can be used.
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Index:
    info: IndexInfo
    fields: dict[str, Tensor]
    lengths: Tensor
    clients: Tensor

    @property
    def held_out(self) -> range:
        """Examples held out from all clients, on which the global adapter is evaluated."""
        return range(int(self.clients[0]))

    def of_client(self, client_id: str) -> range:
        """The client's training examples."""
        return self._range(2 * self._place(client_id))

    def held_out_of(self, client_id: str) -> range:
        """The client's own examples that it does not train on."""
        return self._range(2 * self._place(client_id) + 1)

    def example(self, place: int) -> dict[str, Tensor]:
        return {name: self.value(name, place) for name in self.fields if not name.endswith(".starts")}

    def value(self, name: str, place: int) -> Tensor:
        starts = self.fields.get(f"{name}.starts")
        if starts is None:
            return self.fields[name][place]
        return self.fields[name][int(starts[place]) : int(starts[place + 1])]

    def length(self, place: int) -> int:
        return int(self.lengths[place])

    @cached_property
    def _places(self) -> dict[str, int]:
        return {client.id: place for place, client in enumerate(self.info.clients)}

    def _place(self, client_id: str) -> int:
        if client_id not in self._places:
            raise ValueError(f"the prepared data has no client {client_id!r}; it has {len(self._places)} of them")
        return self._places[client_id]

    def _range(self, place: int) -> range:
        return range(int(self.clients[place]), int(self.clients[place + 1]))


def make_index(info: IndexInfo, examples: Sequence[Example], lengths: Sequence[int], sizes: Sequence[int]) -> Index:
    """`sizes`: of what is held out from all, then of each client's training and held-out examples."""
    fields: dict[str, Tensor] = {}
    for name in _names(examples):
        values = [example[name] for example in examples]
        shapes = {value.shape for value in values}
        if len(shapes) == 1:
            fields[name] = torch.stack(values)
        elif len({(len(shape), shape[1:]) for shape in shapes}) > 1 or torch.Size() in shapes:
            one, other = sorted(shapes)[:2]
            raise InputError(
                f"{name}: expected examples whose shapes differ in the first side alone, got {list(one)} and "
                f"{list(other)}",
                "model.task",
            )
        else:
            fields[name] = torch.cat(values)
            fields[f"{name}.starts"] = torch.tensor([0, *map(len, values)]).cumsum(0)
    return Index(info, fields, torch.tensor(lengths), torch.tensor(sizes).cumsum(0))


def _names(examples: Sequence[Example]) -> list[str]:
    names = list(examples[0]) if examples else []
    for example in examples:
        if example.keys() != set(names):
            one, other = (", ".join(sorted(each)) for each in (names, example))
            raise InputError(f"an example has {one}, another {other}: expected the same in all", "model.task")
    for name in names:
        if "." in name:
            raise InputError(f"an example has {name!r}: expected a name without a dot", "model.task")
    return names


def write_index(path: Path, index: Index) -> None:
    """For its owner alone, since it is made of data that may be private."""
    tensors = _tensors(index)
    # One metadata key, since the order of several is not the same in every process.
    metadata = {"prelort": json.dumps({**asdict(index.info), "content": _checksum(tensors)}, sort_keys=True)}
    write_private_file(path, save(tensors, metadata))


def read_index(path: Path) -> Index:
    """Maps the file; raises InputError when it is not whole."""
    index, content = _map(path)
    if content != _checksum(_tensors(index)):
        raise InputError(f"{path}: its content does not match its checksum")
    return index


def open_index(path: Path, expected_sha256: str, cache_dir: Path | None = None) -> Index:
    """The index that the controller named, if the file still is that one."""
    if not path.is_file():
        raise InputError(f"{path}: the prepared index is gone; prepare the data again")
    found = file_sha256(path, cache_dir)
    if found != expected_sha256:
        raise InputError(f"{path}: expected sha256 {expected_sha256}, got {found}; prepare the data again")
    return _map(path)[0]  # its bytes are known by now


def _tensors(index: Index) -> dict[str, Tensor]:
    return {**index.fields, _LENGTHS: index.lengths, _CLIENTS: index.clients}


def _map(path: Path) -> tuple[Index, str]:
    """The index, and the checksum of its content that the file tells."""
    try:
        with safe_open(path, framework="pt") as file:
            info = json.loads(file.metadata()["prelort"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        content = info.pop("content")
        info["clients"] = [
            ClientInfo(**{**client, "mix": [(value, n) for value, n in client["mix"]]}) for client in info["clients"]
        ]
        lengths, clients = tensors.pop(_LENGTHS), tensors.pop(_CLIENTS)
        return Index(IndexInfo(**info), tensors, lengths, clients), content
    except (SafetensorError, KeyError, TypeError, ValueError) as error:  # no OSError: that says nothing of the file
        raise InputError(f"{path}: is not a prepared index: {error}") from error


def _checksum(tensors: dict[str, torch.Tensor]) -> str:
    digest = sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
