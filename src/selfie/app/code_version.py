"""Which code makes an artefact? The modules of the package that a function can reach, by what they say.

Reach is followed through ``import`` statements, wherever they stand; a module counts by its syntax tree without
docstrings, so that a comment, a docstring or a line break makes no result stale. Libraries are not looked into: their
versions are the lock file's.
"""

import ast
import hashlib
import inspect
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = __name__.split(".", maxsplit=1)[0]
ROOT = Path(__file__).parents[1]


def code_version(function: Callable[..., Any]) -> dict[str, str]:
    """Module → short hash, of every module of the package that ``function``'s module imports, directly or not."""
    return _version_of(inspect.unwrap(function).__module__)


@cache
def _version_of(start: str) -> dict[str, str]:
    reached: dict[str, str] = {}
    waiting = [start]
    while waiting:
        module = waiting.pop()
        if module not in reached and _file(module) is not None:
            reached[module], imported = _read(module)
            waiting.extend(imported)
    return dict(sorted(reached.items()))


@cache
def _read(module: str) -> tuple[str, tuple[str, ...]]:
    """The module's hash and the names that it imports of the package."""
    file = _file(module)
    assert file is not None
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imported = tuple(name for name in _imports(tree) if name.split(".")[0] == PACKAGE)
    return hashlib.sha256(ast.dump(_without_docstrings(tree)).encode()).hexdigest()[:12], imported


def _imports(tree: ast.Module) -> Iterator[str]:
    for statement in ast.walk(tree):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            yield statement.module
            # `from package import module` reaches the module, too; a name that is none has no file.
            yield from (f"{statement.module}.{alias.name}" for alias in statement.names)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for scope in ast.walk(tree):
        body = getattr(scope, "body", None)
        if isinstance(body, list):
            scope.body = [line for line in body if not _is_text(line)]  # type: ignore[attr-defined]
    return tree


def _is_text(line: ast.AST) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)


def _file(module: str) -> Path | None:
    first, *rest = module.split(".")
    if first != PACKAGE:
        return None
    place = ROOT.joinpath(*rest)
    candidates = (place / "__init__.py", place.with_name(f"{place.name}.py"))
    return next((file for file in candidates if file.is_file()), None)
