"""A checkpoint whose weights are not those of its model is refused with the names of the keys, never completed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import diptych_adapters.hooks
from diptych import Collection, Registry
from diptych.config import Config
from diptych.errors import AdapterFactoryError
from diptych_training.options import TrainingOptions
from diptych_training.running.families import family
from tiny_models import bert, cross_encoder, encoder

REGISTRY = Registry(diptych_adapters.hooks, installed=False)
Weights = dict[str, Any]
ADAPTERS = {
    "dense": "sentence-transformers",
    "tokens": "sentence-transformers-multivector",
    "reranker": "cross-encoder",
    "splade": "sentence-transformers-sparse",
    "sparse": "sentence-transformers-sparse",
    "late": "sentence-transformers-multivector",
    "table": "static",
    "table-by-torch": "sentence-transformers",
    "inference-free": "sentence-transformers-sparse",
}
VARIANT = {"tokens": {"trained_as": "dense"}, "splade": {"trained_as": "masked-lm"}}
TRAINED = {"dense": "dense", "reranker": "reranker", "sparse": "sparse", "late": "multivector", "splade": "sparse"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each class of model, over forty words."""
    from sentence_transformers import MultiVectorEncoder, SentenceTransformer, SparseEncoder
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding
    from transformers import AutoTokenizer

    root = tmp_path_factory.mktemp("models")
    start = bert(root / "splade")
    tokenizer: Any = AutoTokenizer.from_pretrained(str(start))
    table: list[Any] = [StaticEmbedding(tokenizer, embedding_dim=16)]
    made: dict[str, Any] = {
        "dense": encoder(root / "start"),
        "reranker": cross_encoder(root / "start"),
        "sparse": SparseEncoder(str(start), device="cpu"),
        "late": MultiVectorEncoder(str(start), device="cpu"),
        "table": SentenceTransformer(modules=table, device="cpu"),
        "inference-free": SparseEncoder(modules=[SparseStaticEmbedding(tokenizer)], device="cpu"),
    }
    for name, model in made.items():
        model.save_pretrained(str(root / name), create_model_card=False)
    shutil.copytree(root / "dense", root / "tokens")
    shutil.copytree(root / "table", root / "table-by-torch")
    return root


def files(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*.safetensors"))


def changed(models: Path, name: str, tmp_path: Path, change: Callable[[Weights], object], file: int = -1) -> Path:
    """A copy of a model with other weights in one of its files."""
    folder = tmp_path / name
    shutil.copytree(models / name, folder)
    path = folder / files(folder)[file]
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})
    return folder


def use(name: str, folder: Path, **options: Any) -> Any:
    adapter: Any = REGISTRY.create(ADAPTERS[name], {"model": str(folder), **VARIANT.get(name, {}), **options})
    return adapter.predict([("word1", "word2")]) if name == "reranker" else adapter.encode_document(["word1 word2"])


def drop(weights: Weights) -> None:
    weights.pop(a_key(weights))
    weights or weights.update({"stray.weight": torch.zeros(3)})


def a_key(weights: Weights) -> str:
    return next((key for key in weights if key.endswith("attention.output.dense.weight")), next(iter(weights)))


def reshape(weights: Weights) -> None:
    key = a_key(weights)
    weights[key] = torch.zeros([size + 1 for size in weights[key].shape])


@pytest.mark.parametrize("name", ADAPTERS)
def test_each_class_loads_where_all_weights_are_there(models: Path, name: str) -> None:
    assert use(name, models / name) is not None


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize(
    ("change", "said"), [(drop, "{key}|'embeddings'"), (reshape, "{key}|match|46 vectors"), (None, "stray")]
)
def test_one_weight_missing_misshapen_or_too_many_is_refused(
    models: Path, name: str, change: Callable[[Weights], object] | None, said: str, tmp_path: Path
) -> None:
    for number, file in enumerate(files(models / name)):
        key = re.escape(a_key(load_file(models / name / file)))
        own = change or (lambda weights: weights.update({"stray.weight": torch.zeros(3)}))
        folder = changed(models, name, tmp_path / str(number), own, number)
        with pytest.raises(AdapterFactoryError, match=said.format(key=key)):
            use(name, folder)


@pytest.mark.parametrize("backend", ["openvino", "onnx"])
def test_no_engine_is_made_of_an_incomplete_model(models: Path, backend: str, tmp_path: Path) -> None:
    pytest.importorskip(backend)
    with pytest.raises(AdapterFactoryError, match=r"1 missing: encoder\.layer\.0"):
        use("dense", changed(models, "dense", tmp_path, drop), backend=backend)


def test_all_kinds_of_faults_are_told_at_once(models: Path, tmp_path: Path) -> None:
    def change(weights: Weights) -> None:
        reshape(weights)
        weights["stray.weight"] = torch.zeros(3)
        weights.pop("embeddings.LayerNorm.bias")

    with pytest.raises(AdapterFactoryError) as caught:
        use("dense", changed(models, "dense", tmp_path, change))
    text = str(caught.value)
    for said in (
        "1 missing: embeddings.LayerNorm.bias",
        "1 unexpected: stray.weight",
        "1 of another shape: encoder.layer.0.attention.output.dense.weight ([33, 33] for [32, 32])",
    ):
        assert said in text


def test_the_layers_that_the_config_leaves_out_are_told(models: Path, tmp_path: Path) -> None:
    """The weights of a deeper model: without them it would answer, otherwise than its maker's."""

    def deepen(weights: Weights) -> None:
        layer = {key: value for key, value in weights.items() if "layer.0." in key}
        weights.update({key.replace("layer.0.", "layer.1."): value.clone() for key, value in layer.items()})

    with pytest.raises(AdapterFactoryError, match=r"16 unexpected: encoder\.layer\.1"):
        use("dense", changed(models, "dense", tmp_path, deepen))


HEADS = {"splade": "cls.predictions.transform.dense.weight", "reranker": "classifier.weight"}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_that_scores_must_have_been_trained(models: Path, name: str, tmp_path: Path) -> None:
    def behead(weights: Weights) -> None:
        for key in [key for key in weights if key.startswith(HEADS[name].partition(".")[0])]:
            weights.pop(key)

    with pytest.raises(AdapterFactoryError, match=re.escape(HEADS[name])):
        use(name, changed(models, name, tmp_path, behead))


def test_the_pooler_of_a_cross_encoder_must_be_there_and_that_of_a_dense_mean_need_not(
    models: Path, tmp_path: Path
) -> None:
    def unpool(weights: Weights) -> None:
        for key in [key for key in weights if "pooler" in key]:
            weights.pop(key)

    before = use("dense", models / "dense")
    assert (use("dense", changed(models, "dense", tmp_path, unpool)) == before).all()
    with pytest.raises(AdapterFactoryError, match=r"2 missing: bert\.pooler"):
        use("reranker", changed(models, "reranker", tmp_path, unpool))


def test_checkpoints_as_others_publish_them_load(models: Path, tmp_path: Path) -> None:
    """An encoder out of a language model, with the heads of its pretraining and a buffer of older versions."""

    def publish(weights: Weights) -> None:
        weights["bert.embeddings.position_ids"] = torch.arange(32)[None]
        weights["bert.pooler.dense.weight"] = torch.ones(32, 32)
        weights["bert.pooler.dense.bias"] = torch.zeros(32)
        weights["cls.seq_relationship.weight"] = torch.zeros(2, 32)
        weights["cls.seq_relationship.bias"] = torch.zeros(2)

    folder = changed(models, "splade", tmp_path, publish)
    for name in ("splade", "dense", "tokens", "sparse"):
        assert use(name, folder) is not None


SMALL = {
    "vocab_size": 45,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 514,
    "pad_token_id": 0,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "RobertaForMaskedLM": ("RobertaConfig", SMALL),
    "DistilBertForMaskedLM": ("DistilBertConfig", {"vocab_size": 45, "dim": 32, "n_layers": 1, "n_heads": 2}),
    "MPNetForMaskedLM": ("MPNetConfig", SMALL),
    "DebertaV2ForMaskedLM": ("DebertaV2Config", SMALL),
    "Qwen2ForCausalLM": ("Qwen2Config", {**SMALL, "num_key_value_heads": 2}),
    "T5ForConditionalGeneration": ("T5Config", {"vocab_size": 45, "d_model": 32, "num_layers": 1, "num_heads": 2}),
}


@pytest.mark.parametrize("architecture", FAMILIES)
def test_an_encoder_is_taken_out_of_a_language_model_of_any_family(
    models: Path, architecture: str, tmp_path: Path
) -> None:
    import transformers

    config, shape = FAMILIES[architecture]
    made = getattr(transformers, architecture)(getattr(transformers, config)(**shape))
    made.save_pretrained(tmp_path)
    tokenizer = transformers.BertTokenizer(str(models / "splade" / "vocab.txt"), model_max_length=60)
    tokenizer.save_pretrained(tmp_path)
    for name in ("dense", "splade") if architecture.endswith("MaskedLM") else ("dense",):
        assert use(name, tmp_path, backend="torch") is not None
    weights = load_file(tmp_path / "model.safetensors")
    layers = (".layer.0.", ".layers.0.")
    lost = next(key for key in weights if not key.startswith("decoder") and any(layer in key for layer in layers))
    save_file(
        {key: value for key, value in weights.items() if key != lost}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(AdapterFactoryError, match="1 missing"):
        use("dense", tmp_path, backend="torch")


def test_a_populate_with_an_incomplete_model_fails_and_leaves_nothing_in_the_cache(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    folder = changed(models, "dense", tmp_path, drop)
    slot = {"adapter": ADAPTERS["dense"], "model": str(folder)}
    config = Config.model_validate({"store": "memory:", "collection": "c", "slots": {"dense": slot}})
    with (
        pytest.raises(AdapterFactoryError, match="1 missing"),
        Collection.open(config, registry=REGISTRY) as collection,
    ):
        collection.populate([{"id": "1", "text": "word1"}])
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", TRAINED)
def test_a_training_begins_with_no_incomplete_model(models: Path, name: str, tmp_path: Path) -> None:
    trained = family(TRAINED[name])  # type: ignore[arg-type]
    options = TrainingOptions(device="cpu")
    trained.load(str(models / name), options)
    with pytest.raises(AdapterFactoryError, match=r"1 missing: .*encoder\.layer\.0"):
        trained.load(str(changed(models, name, tmp_path, drop)), options)


def test_a_cross_encoder_begins_with_a_head_of_its_own_over_a_complete_language_model(
    models: Path, tmp_path: Path
) -> None:
    options = TrainingOptions(device="cpu")
    assert family("reranker").load(str(models / "splade"), options, num_labels=1).num_labels == 1
    with pytest.raises(AdapterFactoryError, match=r"1 missing: bert\.encoder\.layer\.0"):
        family("reranker").load(str(changed(models, "splade", tmp_path, drop)), options, num_labels=1)


def test_loads_of_other_threads_meanwhile_are_left_alone(models: Path) -> None:
    import threading

    from transformers import AutoModel

    from diptych_adapters.pipelines.weight_checks import recorded

    found: list[object] = []
    with recorded() as loads:
        thread = threading.Thread(target=lambda: found.append(AutoModel.from_pretrained(str(models / "dense"))))
        thread.start()
        thread.join()
    assert [type(one).__name__ for one in found] == ["BertModel"]
    assert loads == []
