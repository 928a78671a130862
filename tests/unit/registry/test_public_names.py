"""What `import diptych` gives, with each parameter documented, and what it must not load."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import diptych
from diptych import errors, hookspecs, testing
from diptych.registry import HOOKS

# fastembed is not among them: qdrant-client imports it by itself wherever it is installed.
HEAVY = {"torch", "sentence_transformers", "transformers", "model2vec", "matplotlib", "scipy", "pytest"}


def public(module: ModuleType) -> set[str]:
    """The names that a reader would take for public: no underscore, and no module that an import left behind."""
    found = {name for name in vars(module) if not name.startswith("_")}
    return {name for name in found if name in module.__all__ or not isinstance(getattr(module, name), ModuleType)}


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_all_names_the_public_names_of_the_package() -> None:
    unlisted = {"annotations", "Any", "TYPE_CHECKING"}
    lazy = {"__version__", "Collection", "TenantCollection", "client", "async_client"}
    assert set(diptych.__all__) == (public(diptych) - unlisted) | lazy
    assert all(getattr(diptych, name) is not None for name in diptych.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Colection'"):
        diptych.Colection  # noqa: B018


def test_all_names_the_public_names_of_the_test_kit() -> None:
    lazy = {name for name in testing.__all__ if name.endswith("Contract")}
    unlisted = {"annotations", "Any", "TYPE_CHECKING", "fakes", "failures", "words", "contracts"}
    assert set(testing.__all__) == (public(testing) - unlisted) | lazy
    assert all(getattr(testing, name) is not None for name in testing.__all__)


def test_an_unknown_name_of_the_test_kit_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'diptych\.testing' has no attribute 'NoSuchContract'"):
        _ = testing.NoSuchContract


def test_the_tree_in_the_errors_docstring_names_every_error_under_its_parent() -> None:
    drawn = [line for line in (errors.__doc__ or "").splitlines() if line.strip(" │├└─").split(" ")[0].isidentifier()]
    for name, error in vars(errors).items():
        if isinstance(error, type) and issubclass(error, errors.DiptychError) and error is not errors.DiptychError:
            assert any(line.strip(" │├└─").split(" ")[0] == name for line in drawn), name


def test_importing_diptych_and_listing_all_adapters_loads_no_model_library() -> None:
    loaded = modules_after("import diptych; assert len(diptych.Registry().specs()) > 3")
    assert loaded & HEAVY == set()


def test_importing_diptych_alone_imports_no_guest() -> None:
    loaded = {name.split(".")[0] for name in modules_after("import diptych")}
    assert loaded & (HEAVY | {"diptych_adapters", "diptych_training"}) == set()


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


def test_every_parameter_of_a_public_call_is_documented() -> None:
    for name, call, text in calls():
        names = {own for own in inspect.signature(call).parameters if own not in ("self", "cls", "args", "kwargs")}
        assert names - documented(text) == set(), f"{name} leaves parameters undocumented"


def test_dir_lists_the_public_names_also_those_that_are_imported_later() -> None:
    assert dir(diptych) == sorted(diptych.__all__)
    assert "Collection" in dir(diptych)


def test_the_page_of_hooks_has_each_with_its_arguments_and_how_many_answer() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "hooks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(diptych_\w+)` \| (.*?) \| .*? \| (all|one) \|$", page, re.MULTILINE)
    found = {name: (re.findall(r"`(\w+)`", arguments), answers) for name, arguments, answers in rows}
    hooks = {hook: getattr(hookspecs, hook) for hook in HOOKS}
    arguments = {hook: list(inspect.signature(specified).parameters) for hook, specified in hooks.items()}
    counts = {hook: "one" if specified.diptych_spec["firstresult"] else "all" for hook, specified in hooks.items()}
    assert found == {hook: (arguments[hook], counts[hook]) for hook in HOOKS}
    assert [hook for hook in HOOKS if f"\n## {hook}({', '.join(arguments[hook])})\n" not in page] == []
