"""What `import diptych` gives, and what it must not load."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import diptych
from diptych import errors, testing

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
