"""
Writes a base model with an adapter merged into it, as transformers loads it:

    python workers/run.py prelort_worker.export --parent-pid 4711

The request comes as the first line of standard input, a `Request` as JSON; the answer is one line of JSON on standard
output, `{"remarks": […]}` or `{"error": …}`. It ends with the process that started it.
"""

import argparse
import json
import sys
from typing import TextIO

from .errors import InputError
from .lifetime import die_with_parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="prelort_worker.export")
    parser.add_argument("--parent-pid", required=True, type=int, help="process this one must not outlive")
    options = parser.parse_args()
    line = sys.stdin.buffer.readline()
    die_with_parent(options.parent_pid)
    # Whatever a library prints is no answer.
    answer, sys.stdout = sys.stdout, sys.stderr
    try:
        _say(answer, {"remarks": _export(line)})
    except InputError as error:
        _say(answer, {"error": str(error)})


def _export(line: bytes) -> list[str]:
    import transformers

    from .merge import Request, export
    from .wire.validation import from_map

    transformers.utils.logging.disable_progress_bar()
    return export(from_map(Request, json.loads(line), "request"))


def _say(stream: TextIO, answer: dict[str, object]) -> None:
    stream.write(f"{json.dumps(answer)}\n")
    stream.flush()


if __name__ == "__main__":
    main()
