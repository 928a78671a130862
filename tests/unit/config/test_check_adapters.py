"""A config is checked against the adapters at hand, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, SecretStr

import colour_plugin
import diptych
import diptych_adapters.hooks
from diptych import AdapterSpec, Registry
from diptych.config import Config, check_adapters, load_config, parse_config
from diptych.errors import ConfigError


class DenseOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")
    model: str = "default"
    batch_size: int = 32
    device: Literal["cpu", "cuda"] = "cpu"
    api_key: SecretStr | None = None


class Plugin:
    @staticmethod
    @diptych.hookimpl
    def diptych_register_adapters() -> list[AdapterSpec]:
        names: dict[str, Any] = {"toy-dense": "dense", "toy-sparse": "sparse", "toy-late": "multivector"}
        encoders = [
            AdapterSpec(name=name, kind=kind, factory="nowhere:Model", summary=name, options=DenseOptions)
            for name, kind in names.items()
        ]
        reranker = AdapterSpec(
            name="toy-rerank", kind="reranker", factory="nowhere:Model", summary="reranks", options=DenseOptions
        )
        return [*encoders, reranker]


REGISTRY = Registry(Plugin, installed=False)


def config(slots: dict[str, Any], **search: Any) -> Config:
    return parse_config({"collection": "c", "slots": slots, "search": search})


def test_a_fitting_config_passes_without_its_factories_being_imported() -> None:
    slots = {
        "dense": {"adapter": "toy-dense", "batch_size": 8},
        "lexical": {"adapter": "toy-sparse"},
        "late": {"adapter": "toy-late"},
    }
    rerank = [{"adapter": "toy-rerank", "device": "cuda"}]
    check_adapters(config(slots, rerank=rerank, rescore={"slot": "late"}, diversify={"slot": "dense"}), REGISTRY)


DENSE = {"adapter": "toy-dense"}
MISFITS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "an unknown encoder": (
        {"d": {"adapter": "toy-dens"}},
        {},
        "no adapter is called 'toy-dens'.*slots.d.adapter.*did you mean 'toy-dense'",
    ),
    "an encoder like no other": (
        {"d": {"adapter": "xyz"}},
        {},
        "expected: toy-dense, toy-late, toy-sparse\n.*`diptych adapters` lists all",
    ),
    "an unknown reranker": (
        {"d": DENSE},
        {"rerank": [{"adapter": "toy-rerang"}]},
        r"search.rerank\[0\].adapter.*expected: toy-rerank\n.*did you mean 'toy-rerank'",
    ),
    "a reranker as a slot": (
        {"d": {"adapter": "toy-rerank"}},
        {},
        "'toy-rerank' is a reranker, no encoder.*slots.d.adapter.*put it under search.rerank",
    ),
    "an encoder as a reranker": (
        {"d": DENSE},
        {"rerank": [DENSE]},
        r"'toy-dense' is not a reranker.*search.rerank\[0\].adapter.*got: kind dense.*search.rescore",
    ),
    "an unknown option": (
        {"d": {**DENSE, "batchsize": 3}},
        {},
        "no option 'batchsize'.*slots.d.batchsize.*did you mean 'batch_size'",
    ),
    "an unknown option of a reranker": (
        {"d": DENSE},
        {"rerank": [{"adapter": "toy-rerank", "modle": "x"}]},
        r"search.rerank\[0\].modle.*did you mean 'model'",
    ),
    "a misspelt key of the stage": (
        {"d": DENSE},
        {"rerank": [{"adapter": "toy-rerank", "candidate": 3}]},
        r"no option 'candidate'.*search.rerank\[0\].candidate.*did you mean 'candidates'",
    ),
    "a misspelt key of the slot": (
        {"d": {**DENSE, "storag": {}}},
        {},
        "no option 'storag'.*slots.d.storag.*did you mean 'storage'",
    ),
    "a number where text is wanted": ({"d": {**DENSE, "model": 461}}, {}, "got: 461.*expected: text.*put it in quotes"),
    "a wrong value": ({"d": {**DENSE, "device": "tpu"}}, {}, "slots.d.device.*got: 'tpu'.*'cpu' or 'cuda'"),
    "a sparse rescorer": (
        {"d": DENSE, "s": {"adapter": "toy-sparse"}},
        {"rescore": {"slot": "s"}},
        "slot 's' cannot rescore.*search.rescore.slot.*got: kind sparse.*kind multivector or dense",
    ),
    "a multi-vector diversifier": (
        {"d": DENSE, "m": {"adapter": "toy-late"}},
        {"diversify": {"slot": "m"}},
        "slot 'm' cannot diversify.*search.diversify.slot.*got: kind multivector.*expected: kind dense",
    ),
    "a diversifier with passages": (
        {"d": {**DENSE, "passages": {}}},
        {"diversify": {"slot": "d"}},
        "slot 'd' cannot diversify.*search.diversify.slot.*got: a vector for each passage.*expected: kind dense",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_config_that_does_not_fit_its_adapters_is_refused(name: str) -> None:
    slots, search, match = MISFITS[name]
    with pytest.raises(ConfigError, match=f"(?s){match}"):
        check_adapters(config(slots, **search), REGISTRY)


MODALITIES: dict[str, tuple[dict[str, Any], str]] = {
    "pictures for an adapter of texts": (
        {"adapter": "bm25", "of": "image"},
        "'bm25' does not read what.*slots.s.of.*got: of: image.*expected: of: text.*reads image.*leave `of`",
    ),
    "pictures for a text model": (
        {"adapter": "sentence-transformers", "model": "m", "of": "image"},
        "'sentence-transformers' does not read what.*slots.s.of.*got: of: image",
    ),
    "texts for an adapter of sounds": (
        {"adapter": "pitches"},
        "'pitches' does not read what.*slots.s.of.*got: of: text, the default.*expected: of: sound.*write of: sound",
    ),
    "sounds for an adapter of pictures": (
        {"adapter": "transformers-media", "modality": "image", "model": "m", "of": "sound"},
        "'transformers-media' does not read what.*got: of: sound.*expected: of: image.*write of: image",
    ),
}


@pytest.mark.parametrize("name", MODALITIES)
def test_a_slot_gives_its_adapter_only_what_that_accepts(name: str) -> None:
    slot, match = MODALITIES[name]
    registry = Registry(colour_plugin, diptych_adapters.hooks, installed=False)
    with pytest.raises(ConfigError, match=f"(?s){match}"):
        check_adapters(config({"s": slot}), registry)


def test_an_adapter_of_pictures_and_texts_fits_slots_of_both() -> None:
    registry = Registry(colour_plugin, installed=False)
    slots = {"texts": {"adapter": "colours"}, "pictures": {"adapter": "colours", "of": "image"}}
    check_adapters(config(slots), registry)


def test_every_misfit_is_listed_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "diptych.yaml"
    path.write_text("collection: c\nslots:\n  a: {adapter: nope}\n  b:\n    adapter: toy-dense\n    modell: x\n")
    with pytest.raises(ConfigError, match=r"(?s)2 problems.*line 3, slots\.a\.adapter.*line 6, slots\.b\.modell"):
        check_adapters(load_config(path), REGISTRY)


def test_a_number_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config({"d": {**DENSE, "batch_size": "${BATCH_SIZE}"}})
    monkeypatch.setenv("BATCH_SIZE", "16")
    check_adapters(settings, REGISTRY)
    monkeypatch.setenv("BATCH_SIZE", "s3cret")
    with pytest.raises(ConfigError, match=r"(?s)slots\.d\.batch_size.*got: '\$\{BATCH_SIZE\}'") as caught:
        check_adapters(settings, REGISTRY)
    assert "s3cret" not in str(caught.value)


def test_an_unset_variable_is_named_with_the_option_that_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_MODEL", raising=False)
    with pytest.raises(ConfigError, match=r"(?s)NO_SUCH_MODEL is not set.*slots\.d\.model.*export NO_SUCH_MODEL"):
        check_adapters(config({"d": {**DENSE, "model": "${NO_SUCH_MODEL}"}}), REGISTRY)


def test_a_wrong_secret_is_not_shown() -> None:
    with pytest.raises(ConfigError, match=r"slots\.d\.api_key") as caught:
        check_adapters(config({"d": {**DENSE, "api_key": ["s3cret"]}}), REGISTRY)
    assert "s3cret" not in str(caught.value)
