"""The Python in the guides compiles, and what it imports exists. test/e2e/readme.test.ts runs what can be run."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SKIPPED = re.compile(r"\.|node_modules$|dist$|runs$")


def guides(folder: Path = ROOT) -> list[Path]:
    found: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not SKIPPED.match(path.name):
            found += guides(path)
        elif path.suffix == ".md":
            found.append(path)
    return found


def blocks(language: str) -> list[tuple[str, str]]:
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.DOTALL | re.MULTILINE)
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in guides()}
    return [(name, code) for name, text in texts.items() for code in pattern.findall(text)]


SNIPPETS = blocks("py") + blocks("python")
COMMANDS = [
    (name, module, options)
    for name, code in blocks("sh")
    for module, options in re.findall(r"^.*python -m prelort_worker\.(\w+)([^#\n]*)", code, re.MULTILINE)
]


def test_the_guides_have_snippets_and_commands():
    assert len(SNIPPETS) >= 5
    assert len(COMMANDS) >= 1


@pytest.mark.parametrize(("name", "code"), SNIPPETS, ids=[name for name, _ in SNIPPETS])
def test_a_snippet_compiles_and_its_imports_and_classes_work(name: str, code: str):
    tree = ast.parse(code, name)
    defined: list[ast.stmt] = [
        node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom | ast.ClassDef)
    ]
    exec(compile(ast.Module(defined, type_ignores=[]), name, "exec"), {"__name__": "snippet"})


@pytest.mark.parametrize(("name", "module", "options"), COMMANDS)
def test_a_commands_program_exists_and_has_its_options(name: str, module: str, options: str):
    found = importlib.util.find_spec(f"prelort_worker.{module}")
    assert found is not None, name
    assert found.origin is not None
    source = Path(found.origin).read_text(encoding="utf-8")
    for option in re.findall(r"--[a-z-]+", options):
        assert f'"{option}"' in source, f"{name}: {module} {option}"
