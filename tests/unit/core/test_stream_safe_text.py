"""Text is brought to Unicode's stream-safe format before anything may normalise it."""

from __future__ import annotations

import ast
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diptych
from diptych import Collection, Registry
from diptych.config import parse_config
from diptych.runtime.untrusted import stream_safe
from diptych.search.rerank import score
from diptych.slots.encode import encode
from diptych.testing import fakes_plugin
from diptych.testing.fakes import FakeDenseEncoder, FakeReranker
from diptych.types import Floats
from diptych_adapters.lexical import Bm25, NGrams

MARKS = "a" + "\u0300\u0316" * 5_000  # in an order that each normalisation changes
HALF_WIDTH = "a" + "\u0300\uff9e" * 5_000  # every second one is no mark until it is decomposed
ZALGO = "a" + "\u0301" * 31 + "b"
ORDINARY = (
    "plain",
    "naïve café, GRÖSSE",
    "Tiê\u0301ng Viê\u0323t",
    "שָׁלוֹם",
    "हिन्दी में",
    "中文。",
    "ภาษาไทย",
    "ｶﾞｷﾞ",
    "😀👩\u200d🚀",
    "a" + "\u0301" * 30,
)


def longest_run(text: str) -> int:
    """The most non-starters in a row, as normalisation meets them."""
    longest = run = 0
    for mark in unicodedata.normalize("NFKD", text) if len(text) < 1_000 else map(_decomposed, text):
        run = run + 1 if unicodedata.combining(mark) else 0
        longest = max(longest, run)
    return longest


def _decomposed(character: str) -> str:
    return unicodedata.normalize("NFKD", character)[-1]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays_the_same_object(text: str) -> None:
    assert stream_safe(text) is text


@pytest.mark.parametrize("text", [MARKS, HALF_WIDTH, ZALGO, MARKS * 2, "\u0344" * 100, "\U0001e944" * 100])
def test_long_runs_of_marks_are_broken_and_other_characters_keep_their_places(text: str) -> None:
    safe = stream_safe(text)
    assert longest_run(safe) <= 60  # U+0344 is two marks, 30 of them in a row are left
    assert [c for c, was in zip(safe, text, strict=True) if c != was] == ["\u034f"] * (safe.count("\u034f"))
    assert stream_safe(safe) == safe


def test_every_mark_of_unicode_is_known() -> None:
    characters = [chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000]
    marks = [c for c in characters if unicodedata.combining(unicodedata.normalize("NFKD", c)[0])]
    assert [c for c in marks if "\u034f" not in stream_safe(c * 31)] == []


@pytest.fixture
def normalised(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that `unicodedata.normalize` was given."""
    texts: list[str] = []
    normalize = unicodedata.normalize

    def noted(form: Any, text: str) -> str:
        texts.append(text)
        return normalize(form, text)

    monkeypatch.setattr(unicodedata, "normalize", noted)
    return texts


@pytest.mark.parametrize("text", [MARKS, HALF_WIDTH])
@pytest.mark.parametrize("folding", [False, True])
def test_lexicons_normalise_safe_text_alone(text: str, folding: bool, normalised: list[str]) -> None:
    Bm25(ascii_folding=folding, stopwords=[text]).encode_query([text])
    NGrams(ascii_folding=folding).encode_query([text])
    given = [*normalised]
    assert given
    assert max(map(longest_run, given)) <= 60


class Normalizing(FakeDenseEncoder):
    """An encoder as from another distribution, which normalises in Python."""

    def encode_document(self, inputs: Any) -> Floats:
        """The vectors of normalised texts."""
        return super().encode_document([unicodedata.normalize("NFC", text) for text in inputs])


class NormalizingReranker(FakeReranker):
    """A reranker that does."""

    def predict(self, pairs: Any) -> Floats:
        """The scores of normalised pairs."""
        return super().predict([(unicodedata.normalize("NFC", a), unicodedata.normalize("NFC", b)) for a, b in pairs])


def test_encoders_and_rerankers_of_others_get_safe_text(normalised: list[str]) -> None:
    encode(Normalizing(), "dense", "document", [MARKS], where="dense")
    score(NormalizingReranker(), MARKS, [HALF_WIDTH])
    given = [*normalised]
    assert max(map(longest_run, given)) <= 60


def test_ordinary_text_has_the_vectors_that_its_encoder_makes() -> None:
    encoder = FakeDenseEncoder()
    made: Any = encode(encoder, "dense", "document", ORDINARY, where="dense")
    assert np.array_equal(made, encoder.encode_document(ORDINARY))


def test_a_document_of_marks_alone_is_kept_as_it_is() -> None:
    config = {"store": "memory:", "collection": "marks", "slots": {"dense": {"adapter": "fake-dense"}}}
    with Collection.open(parse_config(config), registry=Registry(fakes_plugin)) as marks:
        marks.populate([{"id": "a", "text": MARKS}])
        (hit,) = marks.search(MARKS, limit=1)
        assert hit.document.text == MARKS


def test_no_module_normalises_by_itself() -> None:
    roots = [Path(diptych.__file__).parents[1], Path(sys.modules[Bm25.__module__].__file__ or "").parents[1]]
    modules = {path for root in roots for path in root.rglob("*.py") if "site-packages" not in path.parts}
    unsafe = []
    for module in sorted(modules):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "unicodedata.normalize":
                argument = ast.unparse(node.args[1])
                if not argument.startswith("stream_safe(") and module.name not in ("untrusted.py", "lexical.py"):
                    unsafe.append(f"{module}:{node.lineno}")
    assert unsafe == []
