"""A trained model is put into a config file; everything else in the file stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import diptych_adapters.hooks
from diptych import Registry
from diptych.config import load_config
from diptych.errors import ConfigError
from diptych.training import Registration, register

CONFIG = """\
# My packages.
store: edge:./qdrant
collection: packages
slots:
  dense: {adapter: sentence-transformers, model: all-MiniLM-L6-v2, backend: openvino, truncate_dim: 256}  # the best
  lexical:
    adapter: bm25     # stays
    language: english
search:
  limit: 5
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "diptych.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def adapters() -> Registry:
    return Registry(diptych_adapters.hooks, installed=False)


def trained(folder: Path, adapter: str = "sentence-transformers") -> Registration:
    return Registration(adapter, {"model": str(folder / "runs" / "x")})


def test_the_only_slot_of_its_kind_gets_the_model_and_keeps_what_is_not_the_old_models(
    config: Path, adapters: Registry
) -> None:
    assert register(config, trained(config.parent), adapters) == "slots.dense"
    slot = load_config(config).slots["dense"]
    assert slot.options == {"model": str(config.parent / "runs/x"), "backend": "openvino"}
    assert "model: ./runs/x" in config.read_text()


COLUMNS = """\
store:      edge:./qdrant   # where
collection: packages

slots:
    dense:
        adapter:    sentence-transformers   # the library
        model:      all-MiniLM-L6-v2        # 384 dimensions
        backend:    openvino                # stays
        # of the storage
        storage:    {on_disk: true}
    # words
    lexical:    {adapter: bm25,   language: english}   # stays

# how it is searched
search:     {limit:   5}
"""


def test_the_comment_of_a_value_goes_with_it(config: Path, adapters: Registry) -> None:
    config.write_text(COLUMNS)
    register(config, trained(config.parent), adapters)
    text = config.read_text()
    assert "# 384 dimensions" not in text
    assert all(comment in text for comment in ("# the library", "# of the storage", "# words", "# how it is searched"))
    register(config, trained(config.parent, "sentence-transformers-sparse"), adapters, slot="dense")
    assert "# the library" not in config.read_text()
    assert "# words" in config.read_text()


def test_another_adapter_takes_no_options_along(config: Path, adapters: Registry) -> None:
    register(config, trained(config.parent, "sentence-transformers-sparse"), adapters, slot="lexical")
    slot = load_config(config).slots["lexical"]
    assert slot.adapter == "sentence-transformers-sparse"
    assert slot.options == {"model": str(config.parent / "runs/x")}


def test_a_reranker_becomes_the_first_stage_of_reranking(config: Path, adapters: Registry) -> None:
    assert register(config, trained(config.parent, "cross-encoder"), adapters) == "search.rerank[0]"
    register(config, Registration("cross-encoder", {"model": "/models/y"}), adapters)
    stages = load_config(config).search.rerank
    assert [stage.options for stage in stages] == [{"model": "/models/y"}]


def test_what_a_stage_says_of_itself_stays_when_its_reranker_is_another(config: Path, adapters: Registry) -> None:
    stage = "{adapter: fastembed-reranker, model: m, threads: 2, candidates: 30, deadline: 3s, weight: 0.4}"
    config.write_text(f"{CONFIG}  rerank:\n    - {stage}\n")
    before = load_config(config).search.rerank[0]
    register(config, Registration("cross-encoder", {"model": "/models/y"}), adapters)
    after = load_config(config).search.rerank[0]
    assert after == replace(before, adapter="cross-encoder", options={"model": "/models/y"})
    assert after.weight == 0.4


def test_a_model_that_fits_no_slot_asks_for_a_name(config: Path, adapters: Registry) -> None:
    with pytest.raises(ConfigError, match=r"which slot(?s:.*)no multivector slot(?s:.*)--slot NAME"):
        register(config, trained(config.parent, "sentence-transformers-multivector"), adapters)
    assert config.read_text() == CONFIG


PICTURES = {
    "of": "look: {adapter: transformers-media, modality: image, of: image, model: m, device: cpu}",
    "nested": "look: {adapter: transformers-media, of: image, options: {model: m, modality: image}}",
    "new": "words: {adapter: bm25}",
}


@pytest.mark.parametrize("modality", ["image", "sound", "video"])
@pytest.mark.parametrize("name", PICTURES)
def test_a_model_of_media_is_put_into_a_slot_that_reads_them(
    name: str, modality: str, config: Path, adapters: Registry
) -> None:
    config.write_text(f"collection: c\nslots:\n  {PICTURES[name]}\n")
    model = Registration("media-text", {"modality": modality, "model": "/runs/x"}, of=modality)
    assert register(config, model, adapters, slot="look") == "slots.look"
    slot = load_config(config).slots["look"]
    assert (slot.adapter, slot.of, slot.options) == ("media-text", modality, dict(model.options))


def test_the_only_slot_of_its_modality_gets_a_model_of_media_and_one_of_texts_is_left_alone(
    config: Path, adapters: Registry
) -> None:
    model = Registration("media-text", {"modality": "image", "model": "/runs/x"}, of="image")
    with pytest.raises(ConfigError, match=r"dense model of image(?s:.*)no dense slot of: image(?s:.*)--slot NAME"):
        register(config, model, adapters)
    assert config.read_text() == CONFIG
    look = "  look: {adapter: transformers-media, modality: image, of: image, model: m}\n"
    config.write_text(CONFIG.replace("search:\n", f"{look}search:\n"))
    assert register(config, model, adapters) == "slots.look"
    assert load_config(config).slots["dense"].adapter == "sentence-transformers"


def test_a_model_of_texts_is_not_put_into_a_slot_of_pictures(config: Path, adapters: Registry) -> None:
    text = CONFIG.replace(
        "{adapter: sentence-transformers,", "{adapter: transformers-media, modality: image, of: image,"
    )
    config.write_text(text.replace(", backend: openvino, truncate_dim: 256", ""))
    before = config.read_text()
    with pytest.raises(ConfigError, match=r"'sentence-transformers' does not read(?s:.*)got: of: image"):
        register(config, trained(config.parent), adapters)
    assert config.read_text() == before
