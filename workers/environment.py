"""What `prelort setup` and `prelort doctor` ask about the Python environment. Needs nothing that pip does not bring.

python environment.py requirements [EXTRA …]   the requirements of pyproject.toml, as a JSON list
python environment.py extra EXTRA              those of one extra alone
python environment.py report                   versions found and expected, and the devices, as JSON
"""

from __future__ import annotations

import json
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib  # pip's own copy: the environment may hold nothing else yet

from pip._vendor.packaging.requirements import Requirement

WORKERS = Path(__file__).resolve().parent


def extra_requirements(pyproject: str, extra: str) -> list[str]:
    """The dependencies of a named extra, which needs nothing else of the package's."""
    return list(tomllib.loads(pyproject)["project"]["optional-dependencies"][extra])


def requirements(pyproject: str, extras: list[str]) -> list[str]:
    """The dependencies of a pyproject.toml with those of its named extras."""
    project = tomllib.loads(pyproject)["project"]
    optional = project.get("optional-dependencies", {})
    return [*project["dependencies"], *(line for extra in extras for line in optional[extra])]


def expected_versions(constraints: str) -> dict[str, str]:
    """The pin of each package that holds for this Python on this machine, by normalised name."""
    lines = (line.split("#")[0].strip() for line in constraints.splitlines())
    pins = [Requirement(line) for line in lines if line]
    return {normalise(pin.name): str(pin.specifier).removeprefix("==") for pin in pins if holds(pin)}


def report(pyproject: str, constraints: str) -> dict[str, Any]:
    """Every direct requirement with the version found (or None) and the one expected, and the devices torch sees."""
    expected = expected_versions(constraints)
    names = [normalise(Requirement(line).name) for line in requirements(pyproject, [])]
    packages = [{"name": name, "found": installed_version(name), "expected": expected.get(name)} for name in names]
    return {"python": platform.python_version(), "packages": packages, "devices": devices()}


def installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def devices() -> dict[str, Any]:
    """CUDA devices by name, whether Apple's mps is there; `error` says why torch cannot be imported."""
    try:
        import torch
    except Exception as error:  # a broken install fails in many ways, and each of them is the answer
        return {"cuda": [], "mps": False, "error": f"{type(error).__name__}: {error}"}
    cuda = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {"cuda": cuda, "mps": torch.backends.mps.is_available(), "error": None}


def holds(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate()


def normalise(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def main(arguments: list[str]) -> None:
    pyproject = (WORKERS.parent / "pyproject.toml").read_text(encoding="utf-8")
    if arguments[0] == "requirements":
        answer: object = requirements(pyproject, arguments[1:])
    elif arguments[0] == "extra":
        answer = extra_requirements(pyproject, arguments[1])
    else:
        answer = report(pyproject, (WORKERS / "constraints.txt").read_text(encoding="utf-8"))
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
