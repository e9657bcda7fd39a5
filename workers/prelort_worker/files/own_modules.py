"""The modules that a task of one's own is made of: its file, and what it imports, directly or not, from its folder."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from pathlib import Path


@dataclass(frozen=True)
class _Root:
    """Where modules of one's own lie; of an installed package, it alone."""

    folder: Path
    package: str | None = None

    def holds(self, top: str) -> bool:
        """Whether Python takes the module of that name from here, and from nowhere earlier on its path."""
        if top in sys.builtin_module_names or self.package not in (None, top):
            return False
        spec = PathFinder.find_spec(top, [*sys.path, str(self.folder)])
        if spec is None:
            return False
        # Of links what matters is where they lie, not where they lead.
        places = [*(spec.submodule_search_locations or []), spec.origin]
        return any(Path(place).parent.resolve() == self.folder.resolve() for place in places if place)


def modules_of(name: str, folder: str | None) -> list[tuple[str, Path]]:
    """
    Each with its path relative to the folder, sorted. Imports are read from the source, wherever in it they stand, so
    what is imported later counts too; a module whose name is computed is not found.
    """
    start = _start(name, folder)
    if start is None:
        return []
    root, file = start
    found: set[Path] = set()
    waiting = [file, *_packages_around(file, root.folder)]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        if path.suffix == ".py":
            waiting += [each for imported in _imports(path, root.folder) for each in _files_of(imported, root)]
    return sorted((path.relative_to(root.folder).as_posix(), path) for path in found)


def _start(name: str, folder: str | None) -> tuple[_Root, Path] | None:
    """Where its modules lie, and the task's own file, as `find_task` finds it."""
    if folder is not None:
        file = Path(folder, *name.split(".")).with_suffix(".py")
        if file.is_file():
            return _Root(Path(folder)), file
    top, *rest = name.split(".")
    spec = PathFinder.find_spec(top, [*sys.path, *([folder] if folder else [])])
    place = next(iter([*(spec.submodule_search_locations or []), spec.origin] if spec else []), None)
    if place is None:
        return None
    root = Path(place).parent
    files = _modules_at(root.joinpath(top, *rest))
    is_own = folder is not None and root.resolve() == Path(folder).resolve()
    return (_Root(root, None if is_own else top), files[-1]) if files else None


def _imports(path: Path, root: Path) -> Iterator[str]:
    """Absolute names of what a file may import; `from a import b` may mean the module a.b."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):  # its import says what is wrong with it
        return
    package = list(path.relative_to(root).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module:
                yield module
            yield from (".".join(filter(None, [module, alias.name])) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and _is_import(node.func):
            argument = node.args[0]
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                name = argument.value.lstrip(".")
                level = len(argument.value) - len(name)
                yield ".".join([*(package[: len(package) - level + 1] if level else []), name])


def _is_import(function: ast.expr) -> bool:
    named = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)
    return named in ("import_module", "__import__")


def _files_of(module: str, root: _Root) -> list[Path]:
    """Those of a module of this root, and of the packages that it lies in; none of a module from elsewhere."""
    top, *rest = module.split(".")
    if not top or not root.holds(top):
        return []
    return [file for depth in range(len(rest) + 1) for file in _modules_at(root.folder.joinpath(top, *rest[:depth]))]


def _modules_at(place: Path) -> list[Path]:
    """What `import` takes for the module of that place."""
    package = place / "__init__.py"
    if package.is_file():
        return [package]
    files = (place.with_name(f"{place.name}{suffix}") for suffix in (*EXTENSION_SUFFIXES, ".py"))
    return [file for file in files if file.is_file()][:1]


def _packages_around(file: Path, root: Path) -> list[Path]:
    parents = file.relative_to(root).parents
    return [init for parent in parents if parent != Path() and (init := root / parent / "__init__.py").is_file()]
