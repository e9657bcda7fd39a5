"""
Prints the Python version and the missing packages of a worker as JSON. A script, so that nothing is imported from the
working folder; without type hints or f-strings, so that any Python 3 can run it.
"""

import importlib.util
import json
import sys

NEEDED = ["torch", "transformers", "peft", "zmq", "msgpack", "safetensors", "numpy"]

missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
print(json.dumps({"version": list(sys.version_info[:2]), "missing": missing}))  # noqa: T201
