"""
Prepares data as a worker does, for many clients of a few short examples each.

    python prepare.py '{"clients": 1000000, "examples": 2, "model": "…", "partition": "iid"}'

Writes JSON: seconds, peak memory, and bytes of the prepared file and of the table of clients.
"""

import json
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from prelort_worker.prepare.prepare import prepare
from prelort_worker.wire.messages import Prepare
from prelort_worker.wire.specs import DataSpec, LoraSpec, ModelSpec, PartitionSpec

ASKED = json.loads(sys.argv[1])
HELD_OUT = 256
TOPICS = [f"topic {index}" for index in range(26)]


def write_rows(path: Path, count: int) -> None:
    with path.open("w") as file:
        for index in range(count):
            file.write(f'{{"text": "note {index} of a day", "topic": "{TOPICS[index * 7919 % 26]}"}}\n')


def main() -> None:
    clients, name = ASKED["clients"], ASKED["partition"]
    model = ModelSpec(ASKED["model"], None, "sequence-classification", None, None, "f32", None, None, False)
    partition = PartitionSpec(name, None if name == "iid" else "topic", None if name == "iid" else 0.5, 1, None, None)
    with TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        write_rows(rows, clients * ASKED["examples"] + HELD_OUT)
        data = DataSpec(
            path=str(rows),
            subset=None,
            split=None,
            eval_path=None,
            eval_split=None,
            text="{text}",
            label="topic",
            prompt=None,
            answer=None,
            messages=None,
            image=None,
            chat=False,
            max_length=32,
            packing=False,
            max_examples=None,
            eval_examples=HELD_OUT,
            client_eval_examples=0,
            clients=clients,
            partition=partition,
        )
        lora = LoraSpec(4, [4], 1.0, None, None, 0.0)
        message = Prepare("prepare", 1, "00" * 16, model, lora, data, str(Path(folder) / "cache"))
        started = time.monotonic()
        prepared, table = prepare(message, torch.device("cpu"), lambda _step, _steps: None)
        told = {
            "seconds": time.monotonic() - started,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "index_mib": Path(prepared.index.path).stat().st_size / 2**20,
            "table_mib": table["clients"].data.nbytes / 2**20,
        }
    print(json.dumps(told))


main()
