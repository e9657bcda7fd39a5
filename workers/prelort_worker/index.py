"""
The prepared data: one safetensors file that every worker maps into memory.

Examples lie one after the other: first those held out from all, then client by client those it trains on and those
of its own that are held out. Tensors: `input_ids` [tokens]; `starts` [examples + 1], where each example begins in it;
`targets` [examples], the label of a sequence-classification example, or how many tokens of a causal-lm one are
prompt; `clients` [2 · clients + 1], where each client's training and held-out examples begin. The rest is the file's
metadata.
"""

import json
import os
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from .errors import InputError
from .messages import Task

INDEX_VERSION = 2


@dataclass(frozen=True)
class IndexInfo:
    task: Task
    labels: list[str]
    n_truncated: int
    pad_token_id: int
    client_ids: list[str]


@dataclass(frozen=True)
class Index:
    info: IndexInfo
    input_ids: torch.Tensor
    starts: torch.Tensor
    targets: torch.Tensor
    clients: torch.Tensor

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

    def tokens(self, example: int) -> torch.Tensor:
        return self.input_ids[int(self.starts[example]) : int(self.starts[example + 1])]

    def _place(self, client_id: str) -> int:
        if client_id not in self.info.client_ids:
            raise ValueError(
                f"the prepared data has no client {client_id!r}; it has {len(self.info.client_ids)} of them"
            )
        return self.info.client_ids.index(client_id)

    def _range(self, place: int) -> range:
        return range(int(self.clients[place]), int(self.clients[place + 1]))


_TENSORS = ("input_ids", "starts", "targets", "clients")


def write_index(path: Path, index: Index) -> None:
    """Written aside and renamed: a reader sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: getattr(index, name) for name in _TENSORS}
    # One metadata key, since the order of several is not the same in every process.
    metadata = {"prelort": json.dumps({**asdict(index.info), "content": _checksum(tensors)}, sort_keys=True)}
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    aside.write_bytes(save(tensors, metadata))
    aside.replace(path)


def read_index(path: Path) -> Index:
    """Maps the file; raises InputError when it is not whole."""
    index, content = _map(path)
    if content != _checksum({name: getattr(index, name) for name in _TENSORS}):
        raise InputError(f"{path}: its content does not match its checksum")
    return index


def open_index(path: Path, expected_sha256: str) -> Index:
    """The index that the controller named, if the file still is that one."""
    if not path.is_file():
        raise InputError(f"{path}: the prepared index is gone; prepare the data again")
    found = file_sha256(path)
    if found != expected_sha256:
        raise InputError(f"{path}: expected sha256 {expected_sha256}, got {found}; prepare the data again")
    return _map(path)[0]  # its bytes are known by now


def file_sha256(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _map(path: Path) -> tuple[Index, str]:
    """The index, and the checksum of its content that the file tells."""
    try:
        with safe_open(path, framework="pt") as file:
            info = json.loads(file.metadata()["prelort"])
            tensors = {name: file.get_tensor(name) for name in _TENSORS}
        content = info.pop("content")
        return Index(IndexInfo(**info), **tensors), content
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is not a prepared index: {error}") from error


def _checksum(tensors: dict[str, torch.Tensor]) -> str:
    digest = sha256()
    for name in _TENSORS:
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
