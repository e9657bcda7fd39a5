"""
The worker's package is rooms in a fixed order, from the ground up:

    errors, seeds, lifetime, machine    what needs nothing else
    wire                                the wire contract
    runs                                a run's folder, as it is read
    files, tracing                      files on disk and their hashes; traces of tasks
    rows                                the user's data as rows
    client_table, prepared_dataset, models, device    what tasks are made of
    tasks                               what a model is trained to do
    training                            a model with nested adapters
    prepare                             the prepare task
    task_runner, merge                  what a worker, and an export, does
    serve                               a worker's conversation with its controller
    __main__, lanes, export, gguf, pretrain, unchanged, cluster, tracking    programs

Nothing imports from a later line, wherever in a file the import stands, and no files import one another in a circle.
Programs that must start fast import no torch.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

WORKERS = Path(__file__).parents[2] / "workers"
PACKAGE = WORKERS / "prelort_worker"
ROOMS = [
    {"", "errors", "seeds", "lifetime", "machine"},
    {"wire"},
    {"runs"},
    {"files", "tracing"},
    {"rows"},
    {"client_table", "prepared_dataset", "models", "device"},
    {"tasks"},
    {"training"},
    {"prepare"},
    {"task_runner", "merge"},
    {"serve"},
    {"__main__", "lanes", "export", "gguf", "pretrain", "unchanged", "cluster", "tracking"},
]
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
LONGEST_FUNCTION = 60


def module_name(path: Path) -> str:
    """`wire.frames`; of a package its folder, and of prelort_worker nothing."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(module: str) -> set[str]:
    """Modules of the package that a file imports: at its top, in its functions and for type checkers alone."""
    path = FILES[module]
    package = path.relative_to(PACKAGE).parent.parts
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            found |= {name.partition(".")[2] for name in names if name.partition(".")[0] == PACKAGE.name}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*start, *([node.module] if node.module else [])])
            if not node.level:
                top, _, base = base.partition(".")
                if top != PACKAGE.name:
                    continue
            parts = {f"{base}.{alias.name}".lstrip(".") for alias in node.names}
            found |= {part if part in FILES else base for part in parts}
    return found


IMPORTS = {module: imports_of(module) for module in FILES}


def room_of(module: str) -> str:
    return module.partition(".")[0]


def circle_from(module: str, path: tuple[str, ...], done: set[str]) -> tuple[str, ...] | None:
    if module in path:
        return (*path[path.index(module) :], module)
    if module in done:
        return None
    found = (circle_from(each, (*path, module), done) for each in sorted(IMPORTS[module]))
    circle = next((each for each in found if each), None)
    done.add(module)
    return circle


def test_every_file_is_in_a_known_room():
    assert {room_of(module) for module in FILES} == LEVEL.keys()


def test_every_room_states_its_idea_and_re_exports_nothing():
    """tasks is what users import, so it holds Task."""
    for path in PACKAGE.glob("*/__init__.py"):
        tree = ast.parse(path.read_bytes())
        assert ast.get_docstring(tree), path
        assert path.parent.name == "tasks" or len(tree.body) == 1, path


def test_imports_name_files_of_the_package():
    assert {name for names in IMPORTS.values() for name in names} <= FILES.keys()


def test_no_room_imports_from_a_later_one():
    upward = [
        f"{module} imports {name}"
        for module, names in IMPORTS.items()
        for name in sorted(names)
        if LEVEL[room_of(name)] > LEVEL[room_of(module)]
    ]
    assert upward == []


def test_there_are_no_import_cycles():
    done: set[str] = set()
    assert [circle for module in FILES if (circle := circle_from(module, (), done))] == []


def test_no_function_is_long_unless_a_comment_says_why():
    """The comment `# long: REASON` stands in the line above its def, or its first decorator."""
    long = []
    for path in sorted(WORKERS.rglob("*.py")):
        lines = path.read_text(encoding="utf-8").splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            first = min(each.lineno for each in (node, *node.decorator_list))
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if size > LONGEST_FUNCTION and not lines[first - 2].lstrip().startswith("# long: "):
                long.append(f"{path.relative_to(WORKERS)}: {node.name} has {size} lines")
    assert long == []


@pytest.mark.parametrize("program", ["__main__", "export", "unchanged", "runs", "tracking.__main__"])
def test_a_program_is_imported_without_torch(program: str):
    script = f"import sys, prelort_worker.{program}; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", script], cwd=WORKERS, capture_output=True, text=True, check=True)
    assert answer.stdout == "False\n"
