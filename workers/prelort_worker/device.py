"""The device a worker computes on, and the settings that make results reproducible."""

import os
from contextlib import suppress
from pathlib import Path

import torch

from .errors import InputError
from .machine import cpu_name
from .wire.messages import Device


def choose_device(name: str) -> torch.device:
    """`cpu`, `mps`, `cuda` or `cuda:N`."""
    device = torch.device(name)
    if device.type == "cuda" and not (torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()):
        raise InputError(
            f"{name}: torch sees {torch.cuda.device_count()} CUDA devices here; name one of them, or set "
            "workers.devices to [cpu]"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("mps: this torch has no usable MPS device")
    if device.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"{name}: expected cpu, mps, cuda or cuda:N")
    return device


def make_repeatable(threads: int) -> None:
    """
    The number of threads determines the order of sums. Operators without a deterministic form only warn; training on a
    GPU refuses them where it can (training/repeatable.py).
    """
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def describe_device(device: torch.device) -> Device:
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return Device("cuda", properties.name, f"{properties.major}.{properties.minor}", properties.total_memory)
    if device.type == "mps":
        return Device("mps", cpu_name(), None, torch.mps.recommended_max_memory())
    return Device("cpu", cpu_name(), torch.backends.cpu.get_cpu_capability(), _main_memory())


def forget_peak_memory(device: torch.device) -> None:
    """Resets what `peak_memory` reports, where the system can; elsewhere the peak is that of the whole process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif device.type == "cpu":
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int | None:
    """
    In bytes: on CUDA what PyTorch reserved (the CUDA context takes a few hundred MB more); on a CPU the resident set
    of the process.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    try:
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
        return 1024 * int(line.split()[1])
    except (OSError, ValueError):  # not Linux
        return None


def _main_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # this system does not say
        return None
