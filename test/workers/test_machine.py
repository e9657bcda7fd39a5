"""What a worker tells of the machine that it runs on."""

from pathlib import Path

import pytest
from prelort_worker import machine
from prelort_worker.device import choose_device, describe_device

X86 = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC 9R14
stepping\t: 1

processor\t: 1
model name\t: AMD EPYC 9R14
"""
ARM = """processor\t: 0
BogoMIPS\t: 243.75
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
"""
RASPBERRY = ARM + "\nHardware\t: BCM2835\nmodel name\t: ARMv7 Processor rev 3 (v7l)\n"


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        (X86, "AMD EPYC 9R14"),
        (ARM, "ARM implementer 0x41 part 0xd0c"),
        (RASPBERRY, "ARMv7 Processor rev 3 (v7l)"),
        ("cpu\t\t: POWER9, altivec supported\n", "POWER9, altivec supported"),
    ],
)
def test_a_processor_has_its_models_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpuinfo: str, name: str):
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(machine, "_CPU_INFO", tmp_path / "cpuinfo")
    assert machine.cpu_name() == name
    device = describe_device(choose_device("cpu"))
    assert (device.type, device.name) == ("cpu", name) and device.capability


def test_without_cpuinfo_a_processor_still_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "_CPU_INFO", tmp_path / "none")
    monkeypatch.setattr(machine, "_from_sysctl", lambda: "Apple M2")
    assert machine.cpu_name() == "Apple M2"
    monkeypatch.setattr(machine, "_from_sysctl", lambda: None)
    assert machine.cpu_name() != ""


def test_only_variables_that_select_kernels_are_reported(monkeypatch: pytest.MonkeyPatch):
    kept = {
        "ATEN_CPU_CAPABILITY": "avx2",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "DNNL_MAX_CPU_ISA": "AVX2",
        "MKL_CBWR": "COMPATIBLE",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "NVIDIA_TF32_OVERRIDE": "0",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
    }
    for name, value in {
        **kept,
        "MKL_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "HOME": "/home/me",
        "HF_TOKEN": "x",
    }.items():
        monkeypatch.setenv(name, value)
    told = machine.kernel_variables()
    assert kept.items() <= told.items()
    assert not {"MKL_NUM_THREADS", "OMP_NUM_THREADS", "HOME", "HF_TOKEN"} & told.keys()
