"""What a worker runs on: versions, the processor, and environment variables that select kernels."""

import os
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from platform import machine, processor, python_version

_PACKAGES = ("torch", "transformers", "peft", "tokenizers", "safetensors", "numpy", "pyzmq", "msgpack")
# Prefixes of their names. The config sets the number of threads.
_VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "BLIS_",
    "CUBLAS_",
    "CUBLASLT_",
    "CUDNN_",
    "DNNL_",
    "KMP_",
    "MKL_",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_",
    "ONEDNN_",
    "OPENBLAS_",
    "PRELORT_SIDE_BY_SIDE",
    "PYTORCH_MPS_",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_CUDNN_",
    "VECLIB_",
)
_CPU_INFO = Path("/proc/cpuinfo")


def versions() -> dict[str, str]:
    return {"python": python_version(), **{package: version(package) for package in _PACKAGES}}


def kernel_variables() -> dict[str, str]:
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith(_VARIABLES) and not name.endswith("_NUM_THREADS")
    }


def cpu_name() -> str:
    """The model's name; on Linux `platform.processor()` is empty or only the architecture."""
    return _from_cpuinfo() or _from_sysctl() or processor() or machine() or "CPU"


def _from_cpuinfo() -> str | None:
    try:
        text = _CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return None
    told = dict(re.findall(r"^([^\t:]+)\s*:[ \t]*(.+)$", text, re.MULTILINE))
    named = next(
        (told[key].strip() for key in ("model name", "Processor", "cpu model", "cpu", "uarch") if key in told), None
    )
    if named or "CPU implementer" not in told:
        return named
    return f"ARM implementer {told['CPU implementer']} part {told.get('CPU part', '?')}"  # cpuinfo gives no name


def _from_sysctl() -> str | None:
    """On macOS."""
    try:
        asked = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
