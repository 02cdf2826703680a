"""Which parameters does a node depend on? Those that its function reads, less those that change no result.

A node gets a whole group of parameters and often reads two of them. ``evaluation.temperature`` in its body is a use of
that one; the group handed on as a whole (``train(…, parameters)``), or asked for anything that is not a field, is a use
of all.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from kedro.pipeline.node import Node
from pydantic import BaseModel

from selfie.config.parameters import MODEL, NO_EFFECT, flatten
from selfie.datasets.models import folder_version

PREFIX = "params:"


def parameters_used(node: Node, load: Callable[[str], Any]) -> dict[str, Any]:
    """Dotted name → value of every parameter that decides what the node makes; ``load`` gives an input's value."""
    used: dict[str, Any] = {}
    for argument, name in _arguments(node).items():
        if name != "parameters" and not name.startswith(PREFIX):
            continue
        value = load(name)
        if isinstance(value, BaseModel):
            fields = _fields_read(inspect.unwrap(node.func)).get(argument)
            whole = fields is None or not fields <= type(value).model_fields.keys()
            value = _plain(value, None if whole else fields)
        used[name.removeprefix(PREFIX)] = value
    return flatten(used)


def _arguments(node: Node) -> dict[str, str]:
    """The function's argument → the dataset that it gets."""
    inputs: Any = node._inputs
    if inputs is None:
        return {}
    if isinstance(inputs, Mapping):
        return dict(inputs)
    names = [inputs] if isinstance(inputs, str) else list(inputs)
    arguments = list(inspect.signature(node.func, follow_wrapped=False).parameters)
    # What a starred argument takes beyond its first has no name of its own.
    arguments += [f"*{position}" for position in range(len(names) - len(arguments))]
    return dict(zip(arguments, names, strict=False))


@cache
def _fields_read(function: Callable[..., Any]) -> dict[str, frozenset[str]]:
    """Argument → its attributes that the body reads; arguments that are used as a whole are left out."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    owners = {id(use.value): use for use in ast.walk(tree) if isinstance(use, ast.Attribute)}
    attributes: dict[str, set[str]] = {}
    whole = set()
    for name in (found for found in ast.walk(tree) if isinstance(found, ast.Name)):
        if id(name) in owners:
            attributes.setdefault(name.id, set()).add(owners[id(name)].attr)
        else:
            whole.add(name.id)
    return {name: frozenset(read) for name, read in attributes.items() if name not in whole}


def _plain(group: BaseModel, fields: frozenset[str] | None = None) -> dict[str, Any]:
    """What JSON can hold, of these fields or of all, without those that change no result."""
    plain = {}
    for name, field in type(group).model_fields.items():
        if NO_EFFECT in field.metadata or (fields is not None and name not in fields):
            continue
        value = getattr(group, name)
        if MODEL in field.metadata and value and (version := folder_version(Path(value))):
            value = f"{value} (files {version})"
        plain[name] = _plain(value) if isinstance(value, BaseModel) else value
    return plain
