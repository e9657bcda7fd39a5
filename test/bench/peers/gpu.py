"""
What PyTorch sees of this machine, and the packages that some GPU experiments need.

    python gpu.py

Prints {"torch": "2.13.0", "cuda": "13.0", "devices": ["NVIDIA H200"], "packages": ["bitsandbytes"]}.
"""

import json
from importlib.util import find_spec

import torch

devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
packages = [name for name in ("bitsandbytes", "flash_attn") if find_spec(name)]
print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda, "devices": devices, "packages": packages}))
