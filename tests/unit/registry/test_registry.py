"""Plugins are found, checked and never depend on their order. The plugins are toys, written where they are used."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from diptych import AdapterSpec, Document, Registry, hookimpl
from diptych.errors import AdapterOptionsError, DuplicateAdapter, HookError, RegistryError, UnknownAdapter


def spec(name: str, **facts: Any) -> AdapterSpec:
    return AdapterSpec(
        name=name, kind="dense", factory="diptych.testing:FakeDenseEncoder", summary="a toy", facts=facts
    )


class Alpha:
    @hookimpl
    def diptych_register_adapters(self) -> Iterable[AdapterSpec]:
        return [spec("alpha"), spec("common")]

    @hookimpl
    def diptych_point_id(self, document: Document) -> int | None:
        return int(document.id) if document.id.isdigit() else None


class Beta:
    @hookimpl
    def diptych_register_adapters(self) -> Iterable[AdapterSpec]:
        yield spec("beta")

    @hookimpl
    def diptych_point_id(self) -> int:
        return 0


class Gamma:
    @hookimpl
    def diptych_register_adapters(self) -> Iterable[AdapterSpec]:
        return (spec(name) for name in ("gamma",))

    @hookimpl(trylast=True)
    def diptych_point_id(self) -> int:
        return 7


def test_the_order_of_plugins_never_changes_a_result() -> None:
    answers = set()
    for plugins in itertools.permutations([Alpha(), Beta(), Gamma()]):
        registry = Registry(*plugins, installed=False)
        names = tuple(found.name for found in registry.specs())
        chosen = tuple(registry.hook.diptych_point_id(document=Document(id, "text")) for id in ("12", "x"))
        answers.add((names, chosen))
    assert len(answers) == 1


def test_of_hooks_with_one_answer_the_first_that_is_not_none_counts_and_trylast_comes_last() -> None:
    registry = Registry(Alpha(), Gamma(), installed=False)
    assert registry.hook.diptych_point_id(document=Document("12", "text")) == 12
    assert registry.hook.diptych_point_id(document=Document("x", "text")) == 7
    assert Registry(Alpha(), installed=False).hook.diptych_point_id(document=Document("x", "text")) is None


def test_two_plugins_with_one_name_for_an_adapter_are_both_named_whatever_their_order() -> None:
    class Other:
        @hookimpl
        def diptych_register_adapters(self) -> list[AdapterSpec]:
            return [spec("common")]

    texts = set()
    for plugins in ([Alpha(), Other()], [Other(), Alpha()]):
        with pytest.raises(DuplicateAdapter, match="two plugins register an adapter called 'common'") as caught:
            Registry(*plugins, installed=False)
        texts.add(str(caught.value))
    (text,) = texts
    assert "Alpha and " in text
    assert "Other" in text


def test_a_misspelt_hook_is_an_error_that_names_plugin_and_hooks() -> None:
    class Misspelt:
        @hookimpl
        def diptych_regster_adapters(self) -> list[AdapterSpec]:
            return []

    with pytest.raises(HookError, match="unknown hook 'diptych_regster_adapters'") as caught:
        Registry(Misspelt(), installed=False)
    assert caught.value.where.endswith("Misspelt")
    assert "diptych_register_adapters" in caught.value.expected
    assert isinstance(caught.value.context["plugin"], Misspelt)


def test_a_wrong_argument_name_is_an_error_that_names_the_argument() -> None:
    class WrongArgument:
        @hookimpl
        def diptych_open_store(self, uri: str) -> None:
            return None

    with pytest.raises(HookError, match=r"Argument\(s\) \{'uri'\}.*\n  do: see the hooks"):
        Registry(WrongArgument(), installed=False)


def test_a_hook_without_its_mark_is_an_error_not_silence() -> None:
    def diptych_register_adapters() -> list[AdapterSpec]:
        return [spec("never")]

    plugin = SimpleNamespace(__name__="forgetful", diptych_register_adapters=diptych_register_adapters)
    with pytest.raises(
        HookError, match="is not marked as a hook implementation\n  where: forgetful\n  do: write @diptych"
    ):
        Registry(plugin, installed=False)


@pytest.mark.parametrize("returned", [["a name"], [spec], None, 5])
def test_a_plugin_that_returns_no_specs_is_named(returned: Any) -> None:
    class Wrong:
        @hookimpl
        def diptych_register_adapters(self) -> Any:
            return returned

    with pytest.raises(HookError, match=r"diptych_register_adapters (returned an unexpected object|failed)") as caught:
        Registry(Wrong(), installed=False)
    assert caught.value.where.endswith("Wrong")


def test_an_unknown_adapter_names_the_nearest() -> None:
    with pytest.raises(
        UnknownAdapter, match=r"slot dense\n  expected: alpha, beta, common\n  do: did you mean 'beta'[?]"
    ):
        Registry(Alpha(), Beta(), installed=False).spec("btea", where="slot dense")


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"kind": "dens"}, "unknown kind\n  got: 'dens'\n  expected: dense | sparse"),
        ({"name": ""}, "an adapter has no name"),
        ({"factory": "package.module"}, "names no factory\n  got: 'package.module'\n  expected: \"package.module:attr"),
        ({"factory": ":Encoder"}, "names no factory"),
    ],
)
def test_a_spec_that_cannot_be_is_refused_where_it_is_written(wrong: dict[str, Any], text: str) -> None:
    right: dict[str, Any] = {"name": "x", "kind": "dense", "factory": "a:b", "summary": ""}
    with pytest.raises(RegistryError) as caught:
        AdapterSpec(**right | wrong)
    assert text in str(caught.value)


def toy(name: str, *accepts: str) -> AdapterSpec:
    factory = "diptych.testing:FakeDenseEncoder"
    return AdapterSpec(name=name, kind="dense", factory=factory, summary="a toy", accepts=accepts)


class Toys:
    @hookimpl
    def diptych_register_adapters(self) -> Iterable[AdapterSpec]:
        both = {"words": toy("toys", "text"), "pictures": toy("toy-pictures", "text", "image")}
        yield AdapterSpec.of_variants("toys", "toys of all sizes", "of", both)
        yield AdapterSpec.of_variants("beads", "beads", "colour", {"red": toy("red-beads", "text")})


def test_an_old_name_makes_the_variant_and_warns() -> None:
    registry = Registry(Toys(), installed=False)
    with pytest.warns(FutureWarning, match="'toy-pictures' is called 'toys' now: write `adapter: toys, of: pictures`"):
        old: Any = registry.create("toy-pictures", {"dimension": 4})
    new: Any = registry.create("toys", {"of": "pictures", "dimension": 4})
    assert (old.dimension, old.fingerprint) == (4, new.fingerprint)
    assert [found.name for found in registry.specs()] == ["beads", "toys"]
    assert registry.source("toy-pictures") == registry.source("toys")


def test_spellings_are_all_ways_to_write_an_adapter_with_its_options() -> None:
    registry = Registry(Toys(), installed=False)
    default: list[tuple[str, dict[str, Any]]] = [("toys", {"of": "words", "seed": 1}), ("toys", {"seed": 1})]
    other: list[tuple[str, dict[str, Any]]] = [("toys", {"of": "pictures", "seed": 1}), ("toy-pictures", {"seed": 1})]
    for own in (default, other):
        for name, options in own:
            assert registry.spellings(name, options) == own
    unknown = {"of": "none", "seed": 1}
    for name in ("toys", "absent", "beads"):
        assert registry.spellings(name, unknown) == [(name, unknown)]


def test_a_plugin_may_register_what_was_an_old_name_of_another_adapter() -> None:
    class Own:
        @hookimpl
        def diptych_register_adapters(self) -> Iterable[AdapterSpec]:
            yield spec("red-beads", dimension=64)

    registry = Registry(Toys(), Own(), installed=False)
    assert registry.spec("red-beads").facts == {"dimension": 64}
    assert registry.spellings("red-beads", {}) == [("red-beads", {})]


def test_what_an_adapter_accepts_depends_on_the_option_that_chooses() -> None:
    toys = Registry(Toys(), installed=False).spec("toys")
    assert toys.accepts == ("text", "image")
    values: list[Any] = ["words", "pictures", "none", []]
    accepts = [toys.with_options({"of": value}).accepts for value in values]
    assert accepts == [("text",), ("text", "image"), ("text", "image"), ("text", "image")]
    assert toys.with_options({}).accepts == ("text",)


@pytest.mark.parametrize(
    ("adapter", "options", "what"),
    [
        ("beads", {}, "adapter 'beads' needs the option 'colour'"),
        ("beads", {"colour": "blue"}, "option 'colour' of adapter 'beads' is not usable"),
        ("beads", {"colour": None}, "option 'colour' of adapter 'beads' is not usable"),
        ("toys", {"of": ["words"]}, "option 'of' of adapter 'toys' is not usable"),
    ],
)
def test_an_option_that_chooses_no_variant_is_refused(adapter: str, options: dict[str, Any], what: str) -> None:
    with pytest.raises(AdapterOptionsError) as caught:
        Registry(Toys(), installed=False).create(adapter, options)
    assert caught.value.what == what
    assert caught.value.expected == {"beads": "red", "toys": "words | pictures"}[adapter]
