"""A BERT encoder that is read from its files, without PyTorch, is the encoder that PyTorch makes of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych_adapters.engines import processor
from diptych_adapters.model_options import SentenceTransformersOptions
from diptych_adapters.models import ModelError, ModelFolder, resolve
from diptych_adapters.pipelines.bert_files import read_bert
from diptych_adapters.sentence_transformers import SentenceTransformerEncoder

TEXTS = [
    "a",
    "",
    "Straße, naïve café; жаркое лето, 東京の天気",
    "a sentence of a longer text, told again. " * 80,
    "mail",
]


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., SentenceTransformerEncoder]:
    """Makes encoders as where neither torch nor sentence-transformers is installed, with a cache of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def make(**options: Any) -> SentenceTransformerEncoder:
        with monkeypatch.context() as absent:
            able = processor.have
            absent.setattr(processor, "have", lambda *names: "torch" not in names and able(*names))
            load = "diptych_adapters.sentence_transformers.load"
            absent.setattr(load, lambda *_, **__: pytest.fail("PyTorch was asked"))
            return SentenceTransformerEncoder(SentenceTransformersOptions(**options))

    return make


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All files of MiniLM, with random weights of three layers that are 24 wide."""
    import torch
    from transformers import BertConfig, BertModel

    folder = Path(shutil.copytree(resolve("all-MiniLM-L6-v2").path, tmp_path_factory.mktemp("bert") / "narrow"))
    size: dict[str, Any] = {
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "intermediate_size": 48,
    }
    change(folder / "config.json", **size)
    change(folder / "1_Pooling" / "config.json", word_embedding_dimension=24)
    torch.manual_seed(0)
    shape = json.loads((folder / "config.json").read_text("utf-8"))
    # ten times the usual deviation: small weights would hide a wrong activation or a wrong attention
    BertModel(BertConfig(**{**shape, "initializer_range": 0.2})).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(shape), "utf-8")
    return folder


@pytest.fixture
def model(narrow: Path, tmp_path: Path) -> Path:
    """The narrow model in a folder whose files a test may change."""
    return Path(shutil.copytree(narrow, tmp_path / "model"))


@pytest.fixture
def minilm(tmp_path: Path) -> Path:
    """MiniLM in a folder whose files a test may change."""
    return Path(shutil.copytree(resolve("all-MiniLM-L6-v2").path, tmp_path / "model"))


def change(file: Path, **settings: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), **settings}), "utf-8")


def by_first_token(model: Path) -> None:
    change(model / "1_Pooling" / "config.json", pooling_mode_cls_token=True, pooling_mode_mean_tokens=False)


def by_greatest_and_not_normalized(model: Path) -> None:
    change(model / "1_Pooling" / "config.json", pooling_mode_max_tokens=True, pooling_mode_mean_tokens=False)
    modules = json.loads((model / "modules.json").read_text("utf-8"))
    (model / "modules.json").write_text(json.dumps(modules[:2]), "utf-8")


def with_prompts_and_dot_product(model: Path) -> None:
    prompts = {"query": "query: ", "passage": "passage: "}
    change(model / "config_sentence_transformers.json", prompts=prompts, similarity_fn_name="dot")


def without_a_length(model: Path) -> None:
    (model / "sentence_bert_config.json").write_text("{}", "utf-8")


def with_another_gelu_and_fewer_layers(model: Path) -> None:
    from safetensors.numpy import load_file, save_file

    change(model / "config.json", hidden_act="gelu_new", num_hidden_layers=2, layer_norm_eps=1e-2)
    weights = load_file(model / "model.safetensors")
    kept = {
        name: values
        for name, values in weights.items()
        if ".layer." not in name or ".layer.0." in name or ".layer.1." in name
    }
    save_file({f"bert.{name}": values for name, values in kept.items()}, model / "model.safetensors", {"format": "pt"})


def saved_by_the_library(model: Path) -> None:
    from sentence_transformers import SentenceTransformer

    again = SentenceTransformer(str(model), device="cpu")
    shutil.rmtree(model)
    again.save(str(model))


def assert_those_of_pytorch(model: Path, backend: Any, without_torch: Callable[..., Any]) -> None:
    """Vectors and facts of the encoder that is made without PyTorch are those of the library."""
    alone = without_torch(model=str(model), backend=backend)
    ours, queries = alone.encode_document(TEXTS), alone.encode_query(TEXTS)
    library = SentenceTransformerEncoder(SentenceTransformersOptions(model=str(model)))
    assert np.allclose(ours, library.encode_document(TEXTS), atol=2e-5)
    assert np.allclose(queries, library.encode_query(TEXTS), atol=2e-5)
    assert alone.fingerprint == replace(library.fingerprint, numerics=f"{backend} float32 cpu")
    facts = ("dimension", "normalized", "asymmetric", "similarity", "max_length", "steps")
    assert [getattr(alone, name) for name in facts] == [getattr(library, name) for name in facts]


@pytest.mark.parametrize("backend", ["openvino", "onnx"])
def test_vectors_and_facts_of_minilm_are_those_of_pytorch(
    minilm: Path, backend: Any, without_torch: Callable[..., Any]
) -> None:
    assert_those_of_pytorch(minilm, backend, without_torch)


@pytest.mark.parametrize("backend", ["openvino", "onnx"])
@pytest.mark.parametrize(
    "altered",
    [
        by_first_token,
        by_greatest_and_not_normalized,
        with_prompts_and_dot_product,
        without_a_length,
        with_another_gelu_and_fewer_layers,
        saved_by_the_library,
    ],
)
def test_vectors_and_facts_of_an_altered_model_are_those_of_pytorch(
    model: Path, altered: Callable[[Path], None], backend: Any, without_torch: Callable[..., Any]
) -> None:
    altered(model)
    assert_those_of_pytorch(model, backend, without_torch)


def test_options_hold(model: Path, without_torch: Callable[..., Any]) -> None:
    options: dict[str, Any] = {"max_length": 8, "truncate_dim": 10, "query_prompt": "find: ", "normalize": True}
    alone, library = (
        without_torch(model=str(model), **options),
        SentenceTransformerEncoder.of(model=str(model), **options),
    )
    assert np.allclose(alone.encode_query(TEXTS), library.encode_query(TEXTS), atol=2e-5)
    assert alone.fingerprint.space == library.fingerprint.space
    with pytest.raises(ModelError, match="at most 512 tokens"):
        without_torch(model=str(model), max_length=513)
    with pytest.raises(ModelError, match="truncate_dim is more"):
        without_torch(model=str(model), truncate_dim=25)


def test_weights_that_do_not_match_are_refused(model: Path, without_torch: Callable[..., Any]) -> None:
    change(model / "config.json", num_hidden_layers=4)
    with pytest.raises(ModelError, match=r"encoder\.layer\.3\..* missing"):
        without_torch(model=str(model))
    change(model / "config.json", num_hidden_layers=2)
    with pytest.raises(ModelError, match=r"encoder\.layer\.2\..* unexpected"):
        without_torch(model=str(model))
    change(model / "config.json", num_hidden_layers=3, vocab_size=100)
    with pytest.raises(ModelError, match=r"word_embeddings.weight \[30522, 24\] for \[100, 24\]"):
        without_torch(model=str(model))


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("config.json", {"model_type": "roberta"}),
        ("config.json", {"position_embedding_type": "relative_key"}),
        ("config.json", {"hidden_act": "relu"}),
        ("1_Pooling/config.json", {"include_prompt": False}),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": False, "pooling_mode_lasttoken": True}),
        ("sentence_bert_config.json", {"do_lower_case": True}),
        ("tokenizer_config.json", {"do_lower_case": False}),
        ("tokenizer_config.json", {"padding_side": "left"}),
    ],
)
def test_what_is_not_understood_is_left_to_pytorch(model: Path, file: str, settings: dict[str, Any]) -> None:
    options = SentenceTransformersOptions(model=str(model))
    assert read_bert(ModelFolder(model, "model", "folder"), options) is not None
    change(model / file, **settings)
    assert read_bert(ModelFolder(model, "model", "folder"), options) is None
