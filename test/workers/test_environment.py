"""What setup and doctor ask of Python: requirements read, pins chosen by marker, versions reported."""

import json
import subprocess
import sys

import environment

PYPROJECT = """
[project]
dependencies = ["torch>=2.6", "msgpack>=1.1", "no.such_package>=1"]
[project.optional-dependencies]
test = ["pytest>=8"]
"""


def test_requirements_are_the_dependencies_and_those_of_the_requested_extras() -> None:
    assert environment.requirements(PYPROJECT, []) == ["torch>=2.6", "msgpack>=1.1", "no.such_package>=1"]
    assert environment.requirements(PYPROJECT, ["test"])[-1] == "pytest>=8"


def test_a_pin_counts_only_where_its_marker_holds_and_comments_do_not_count() -> None:
    constraints = """
    # made by a tool
    numpy==2.2.6 ; python_full_version < '3.0'
    numpy==2.4.6 ; python_full_version >= '3.0'  # this one
    Typing_Extensions==4.16.0
    """
    assert environment.expected_versions(constraints) == {"numpy": "2.4.6", "typing-extensions": "4.16.0"}


def test_a_report_gives_the_version_found_and_expected_of_each_requirement() -> None:
    constraints = "torch==2.13.0\nmsgpack==0.1\nno-such-package==1.0\n"
    found = {package["name"]: package for package in environment.report(PYPROJECT, constraints)["packages"]}
    assert found["torch"]["found"].startswith("2.")
    assert found["msgpack"]["expected"] == "0.1"
    assert found["msgpack"]["found"] not in (None, "0.1")
    assert found["no-such-package"] == {"name": "no-such-package", "found": None, "expected": "1.0"}


def test_the_shipped_constraints_pin_every_requirement_exactly_as_installed() -> None:
    script = environment.WORKERS / "environment.py"
    done = subprocess.run([sys.executable, script, "report"], check=True, capture_output=True, text=True)
    for package in json.loads(done.stdout)["packages"]:
        assert package["found"].split("+")[0] == package["expected"], package


def test_the_requirements_of_an_extra_alone_are_those_of_its_tracker() -> None:
    assert environment.extra_requirements(PYPROJECT, "test") == ["pytest>=8"]
