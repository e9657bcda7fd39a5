"""
Prints as JSON which Python this is and which of the packages that a worker imports are missing. A script, so that
nothing is imported from the working folder; without type hints or f-strings, so that any Python 3 can run it.
"""

import importlib.util
import json
import sys

NEEDED = ["torch", "transformers", "peft", "zmq", "msgpack", "safetensors", "numpy"]

missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
print(json.dumps({"version": list(sys.version_info[:2]), "missing": missing}))  # noqa: T201
