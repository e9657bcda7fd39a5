"""What `prepare` tells of each client, one by one."""

from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
import torch
from prelort_worker.prepare import prepare as prepared_by
from prelort_worker.wire.frames import Payload
from prelort_worker.wire.messages import ClientColumns, Prepare, Prepared, TallyColumns
from prelort_worker.wire.validation import from_map


@dataclass(frozen=True)
class ValueCount:
    value: str
    n: int


@dataclass(frozen=True)
class ToldClient:
    id: str
    n: int
    n_eval: int
    label_counts: list[int]
    mix: list[ValueCount]
    n_tokens: int
    n_truncated: int


@dataclass(frozen=True)
class Told(Prepared):
    clients: list[ToldClient]


def prepare(message: Prepare, device: torch.device, report: Any) -> Told:
    return told(*prepared_by.prepare(message, device, report))


def told(prepared: Prepared, payload: Payload) -> Told:
    return Told(**vars(prepared), clients=clients_of(payload, prepared.labels))


def clients_of(payload: Payload, labels: list[str]) -> list[ToldClient]:
    assert list(payload) == ["clients"] and payload["clients"].dtype == "U8"
    columns = from_map(ClientColumns, msgpack.unpackb(payload["clients"].data), "clients")
    numbers = [numbers_of(column) for column in (columns.n, columns.n_eval, columns.n_tokens, columns.n_truncated)]
    label_counts, mixes = (pairs_of(each, len(columns.ids)) for each in (columns.label_counts, columns.mix))
    return [
        ToldClient(
            own_id,
            n,
            n_eval,
            [dict(counts).get(label, 0) for label in range(len(labels))],
            [ValueCount(columns.values[key], count) for key, count in mix],
            n_tokens,
            n_truncated,
        )
        for own_id, n, n_eval, n_tokens, n_truncated, counts, mix in zip(
            columns.ids, *numbers, label_counts, mixes, strict=True
        )
    ]


def numbers_of(column: bytes) -> list[int]:
    return np.frombuffer(column, "<u4").tolist()


def pairs_of(tally: TallyColumns, clients: int) -> list[list[tuple[int, int]]]:
    sizes, keys, counts = (numbers_of(column) for column in (tally.sizes, tally.keys, tally.counts))
    assert len(sizes) == clients and sum(sizes) == len(keys) == len(counts)
    pairs = iter(zip(keys, counts, strict=True))
    return [[next(pairs) for _ in range(size)] for size in sizes]
