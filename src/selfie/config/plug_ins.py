"""Parts from outside the package: a parameter holds the name of a built-in part, or a dotted path to one's own.

A path ``my_package.my_module.my_loss`` is what ``type:`` is in Kedro's catalogs: whatever Python can import.
"""

import difflib
import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any, TypeVar

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

Part = TypeVar("Part")
UNKNOWN_PART = "unknown_part"


def plug_in(*built_in: str, takes: str) -> AfterValidator:
    """Annotates a parameter that may be one of these names, or a dotted path to something that is called alike.

    Where it is neither, the error says why and, as ``remedy`` in its context, what to do.

    Args:
        built_in: the names.
        takes: the positional arguments with which one's own is called, by name, comma-separated.
    """

    def check(name: str) -> str:
        if name in built_in:
            return name
        if "." not in name:
            close = difflib.get_close_matches(name, built_in, n=1)
            raise _error(
                f"it is {name!r}, not one of {', '.join(map(repr, built_in))}",
                f"did you mean {close[0]}?" if close else "name one of them, or your own as package.module.name",
            )
        try:
            own = _load(name)
        except Exception as error:  # a module may fail in every way while it is imported
            reason = f"{name} can't be imported ({type(error).__name__}: {error})"
            raise _error(reason, "mend the path, install the package, or put its folder on PYTHONPATH") from error
        try:
            inspect.signature(own).bind(*takes.split(", "))
        except (TypeError, ValueError) as error:
            raise _error(
                f"{name} can't be called with ({takes}): {error}", "let it take these, in this order"
            ) from error
        return name

    return AfterValidator(check)


def resolve(name: str, built_in: Mapping[str, Part]) -> Part:
    """The built-in part of a checked name, or what its path leads to."""
    return built_in[name] if name in built_in else _load(name)


def _load(path: str) -> Any:
    """What the dotted path leads to. Kedro's ``load_obj`` does the same, but training's processes do without Kedro."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _error(problem: str, remedy: str) -> PydanticCustomError:
    return PydanticCustomError(UNKNOWN_PART, "{problem}", {"problem": problem, "remedy": remedy})
