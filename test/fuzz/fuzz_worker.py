"""The worker's side of npm run fuzz: reads mutated frames from standard input, and reports the outcomes.

    python test/fuzz/fuzz_worker.py --seed 1 --hypothesis 1000 < cases

A case is a conversation with one Inbox: the number of messages; of each message the number of its frames; of each frame
its length and its bytes. Numbers are 4 bytes, little-endian.
Writes lines of JSON to standard output: sometimes its progress, and last its findings. Hypothesis makes more cases.
"""

import argparse
import faulthandler
import gc
import json
import os
import re
import resource
import struct
import sys
import tempfile
import time
import traceback
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgpack
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from prelort_worker.wire.encoding import encoded_bytes
from prelort_worker.wire.frames import CreditWindow, WireError, pack, unpack
from prelort_worker.wire.mailbox import Inbox, Job
from prelort_worker.wire.messages import Credit

WIRE = Path(__file__).parents[1] / "fixtures" / "wire"
# No case may take longer twice in a row; once may be due to the machine.
DEADLINE_SECONDS = 30.0
# Memory that frames of at most 5 MiB may make a worker allocate.
MEMORY_BYTES = 2**30
# Descriptors that cases name: shared memory, and a pipe without a writer.
LENT, SILENT = 200, 201


class Target:
    """Counts the outcome of every case."""

    def __init__(self) -> None:
        self.inputs = self.past_first_check = self.accepted = 0
        self.slowest = 0.0
        self.refusals: Counter[str] = Counter()
        self.findings: dict[str, dict[str, dict[str, Any]]] = {"crashes": {}, "hangs": {}}

    def attempt(self, messages: list[list[bytes]]) -> None:
        self.inputs += len(messages)
        seconds = self._play(messages)
        if seconds > DEADLINE_SECONDS and self._play(messages) > DEADLINE_SECONDS:
            self._find("hangs", f"a case took more than {DEADLINE_SECONDS} s", messages)
        self.slowest = max(self.slowest, seconds)

    def report(self) -> dict[str, Any]:
        return {
            "inputs": self.inputs,
            "pastFirstCheck": self.past_first_check,
            "accepted": self.accepted,
            "slowestMs": round(1000 * self.slowest),
            "refusals": dict(self.refusals.most_common()),
            **{kind: list(found.values()) for kind, found in self.findings.items()},
        }

    def _play(self, messages: list[list[bytes]]) -> float:
        start = time.perf_counter()
        try:
            for name in converse(messages):
                if name:
                    self.refusals[name] += 1
                else:
                    self.accepted += 1
                self.past_first_check += 1
        except WireError as error:
            name = name_of(error)
            self.refusals[name] += 1
            self.past_first_check += not name.startswith("frame:")
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            self._find("crashes", f"{type(error).__name__}: {plain(str(error))} in {place.name}", messages)
        return time.perf_counter() - start

    def _find(self, kind: str, what: str, messages: list[list[bytes]]) -> None:
        example = [b64encode(frame[:4096]).decode() for frames in messages for frame in frames]
        found = self.findings[kind].setdefault(what, {"what": what, "times": 0, "example": example})
        found["times"] += 1


def converse(messages: list[list[bytes]]) -> Iterator[str | None]:
    """Accepts messages as the connection does. Yields each outcome: None, or the name of the failure in the answer."""
    inbox, window = Inbox(os.getpid()), CreditWindow()
    for frames in messages:
        message = unpack(*frames)
        answers = [] if isinstance(message, Credit) else list(inbox.accept(message))
        if isinstance(message, Credit):
            window.give_back(message.bytes)
        for answer in answers:
            pack(answer)
        while not inbox.jobs.empty():
            check_job(inbox.jobs.get())
        errors = [getattr(answer, "error", None) for answer in answers]
        yield next((f"failure of the task: {plain(error.message)}" for error in errors if error), None)


def check_job(job: Any) -> None:
    """Checks that its tensors have the announced sizes and can be read to the end."""
    if isinstance(job, Job):
        for tensor in job.payload.values():
            size = 1
            for side in tensor.shape:
                size *= side
            assert tensor.data.nbytes == encoded_bytes(tensor.dtype, size), "a tensor is not as large as it says"
            bytes(tensor.data[-1:])


def name_of(error: WireError) -> str:
    said = re.split(r", got |: unknown |: missing ", str(error))[0]
    kind = re.search(r": (unknown|missing) ", str(error))
    return plain(said) + (f": {kind[1]} key" if kind else "")


def plain(text: str) -> str:
    text = re.sub(r"/proc/\S+|round-\S+|'[^']*'", "…", text)
    text = re.sub(r"^(chunk of|end of) .*?: ", r"\1 …: ", text, flags=re.DOTALL)
    return re.sub(r"\d+", "N", re.sub(r"\[[^\]]*\]", "[…]", text))[:120]


def read_cases(stream: BinaryIO) -> Iterator[list[list[bytes]]]:
    def number(data: bytes) -> int:
        return struct.unpack("<I", data)[0]

    def read_number() -> int:
        return number(stream.read(4))

    while header := stream.read(4):
        yield [[stream.read(read_number()) for _ in range(read_number())] for _ in range(number(header))]


def golden_messages() -> list[dict[str, Any]]:
    files = [WIRE / entry["file"] for entry in json.loads((WIRE / "expected.json").read_text(encoding="utf-8"))]
    return [msgpack.unpackb(file.read_bytes()) for file in files]


def cases_of_hypothesis() -> st.SearchStrategy[list[list[bytes]]]:
    """Golden messages with changed values of any type at any depth."""
    numbers = st.integers(-(2**63), 2**64 - 1) | st.floats() | st.sampled_from([0, 1, 2, 4, 16, 2**31, 2**53, 2.0**53])
    leaves = st.none() | st.booleans() | numbers | st.text(max_size=20) | st.binary(max_size=64)
    lists = st.lists(leaves, max_size=4)
    values = leaves | lists | st.lists(lists, max_size=3) | st.dictionaries(st.text(max_size=8), leaves, max_size=3)

    @st.composite
    def message(draw: st.DrawFn) -> list[bytes]:
        changed = draw(st.sampled_from(GOLDEN))
        is_chunk = changed["type"] == "chunk"
        data = draw(st.lists(st.binary(max_size=64), min_size=is_chunk, max_size=2 if is_chunk else 1))
        for _ in range(draw(st.integers(1, 3))):
            changed = with_another(draw, changed, values)
        return [msgpack.packb(changed) or b"", *data]

    return st.lists(message(), min_size=1, max_size=4)


def with_another(draw: st.DrawFn, container: Any, values: st.SearchStrategy[Any]) -> Any:
    """A copy with one value changed, or, in a map, a key added or removed."""
    keys = list(container) if isinstance(container, dict) else list(range(len(container)))
    key = draw(st.sampled_from([*keys, "more"] if isinstance(container, dict) else keys)) if keys else None
    if key is None:
        return draw(values)
    copy = container.copy()
    inner = copy.get(key) if isinstance(copy, dict) else copy[key]
    how = draw(st.sampled_from(["other", "inside", "inside", "less"]))
    if how == "inside" and isinstance(inner, dict | list):
        copy[key] = with_another(draw, inner, values)
    elif how == "less" and key != "more":
        del copy[key]
    else:
        copy[key] = draw(values)
    return copy


GOLDEN = golden_messages()


def run_hypothesis(target: Target, number: int, cases: int) -> None:
    @seed(number)
    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    @given(cases_of_hypothesis())
    def play(messages: list[list[bytes]]) -> None:
        target.attempt(messages)

    play()


def resident_bytes() -> int:
    gc.collect()
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def prepare_descriptors() -> None:
    lent = os.memfd_create("fuzz")
    os.pwrite(lent, bytes(range(256)) * 64, 0)
    os.dup2(lent, LENT)
    with tempfile.TemporaryDirectory() as folder:
        pipe = Path(folder) / "pipe"
        os.mkfifo(pipe)
        os.dup2(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), SILENT)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hypothesis", type=int, default=0, help="cases that Hypothesis makes")
    parser.add_argument("--inputs", type=int, required=True, help="frames that are to come, for what is told meanwhile")
    options = parser.parse_args()
    prepare_descriptors()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + MEMORY_BYTES, resource.RLIM_INFINITY))

    target = Target()
    tenth: int | None = None
    told = 0.0

    def tell() -> None:
        nonlocal tenth, told
        if tenth is None and 10 * target.inputs >= options.inputs:
            tenth = resident_bytes()
        if time.monotonic() - told > 0.5:
            told = time.monotonic()
            # Shows where a call into C hangs.
            faulthandler.dump_traceback_later(30, exit=True)
            print(json.dumps({"inputs": target.inputs}), flush=True)

    # In parts, since Hypothesis keeps every case it has tried.
    for start in range(0, options.hypothesis, 500):
        run_hypothesis(target, options.seed + start, min(500, options.hypothesis - start))
        tell()
    for messages in read_cases(sys.stdin.buffer):
        target.attempt(messages)
        tell()
    memory = {
        "afterTenth": {"rss": tenth},
        "atEnd": {"rss": resident_bytes()},
        "mostRss": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }
    print(json.dumps({"layers": {"inbox": target.report()}, "memory": memory}), flush=True)


if __name__ == "__main__":
    main()
