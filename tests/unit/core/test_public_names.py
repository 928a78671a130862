"""What `diptych` offers: its names are listed, and each parameter of each public call is documented."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import diptych

LABELS = re.compile(r"^ *((?:`?[a-z_]+`?, *)*`?[a-z_]+`?):", re.MULTILINE)


def calls() -> Iterator[tuple[str, Callable[..., Any], str]]:
    """Name, call and docstring of everything in `__all__` that can be called; a class is called by its constructor."""
    for name in diptych.__all__:
        found = getattr(diptych, name)
        if inspect.isclass(found) and not issubclass(found, Exception):
            yield name, found, inspect.getdoc(found) or ""
            for own, method in inspect.getmembers(found):
                if not own.startswith("_") and callable(method) and method.__module__.startswith("diptych"):
                    yield f"{name}.{own}", method, inspect.getdoc(method) or ""
        elif inspect.isfunction(found):
            yield name, found, inspect.getdoc(found) or ""


def documented(text: str) -> set[str]:
    """The names that stand before a colon under `Args`, or in backticks anywhere."""
    args = text.partition("Args:")[2]
    labels = (label.strip("` ") for found in LABELS.findall(args) for label in found.split(","))
    return {*labels, *re.findall(r"`\*?\*?([a-z_]+)[^`]*`", text)}


CALLS = {name: (call, text) for name, call, text in calls()}


@pytest.mark.parametrize("name", CALLS)
def test_every_parameter_of_a_public_call_is_documented(name: str) -> None:
    call, text = CALLS[name]
    names = {own for own in inspect.signature(call).parameters if own not in ("self", "cls", "args", "kwargs")}
    assert names - documented(text) == set(), f"{name} leaves parameters undocumented"


def test_dir_lists_the_public_names_also_those_that_are_imported_later() -> None:
    assert dir(diptych) == sorted(diptych.__all__)
    assert "Collection" in dir(diptych)
