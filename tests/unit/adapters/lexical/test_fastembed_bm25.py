"""`compatible_with: fastembed` makes the vectors of FastEmbed's `Qdrant/bm25`.

The hub's folder of that model holds NLTK's stop words. Those of bm25s are NLTK's too: no test needs the network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diptych.errors import RegistryError
from diptych.registry import Registry
from diptych_adapters.lexical import Bm25

fastembed = pytest.importorskip("fastembed.sparse.bm25")
stopwords = pytest.importorskip("bm25s.stopwords")

TEXTS = [
    "The organization of a university's evening courses: adding, pasting and intervals of interval training",
    "I don't know what you've said, it isn't ‘quoted’ _ __init__ snake_case v1.2.3 x y z",
    "Café ÜBER Straße İstanbul ΟΔΟΣ'Α 中文 ﬁne ① x² e\u0301a",
    "word " * 300 + "w" * 40 + " " + "w" * 41,
    "the of and",
    "",
]


def theirs(tmp_path: Path, language: str, **options: Any) -> Any:
    words = stopwords.STOPWORDS_EN_PLUS if language == "english" else stopwords.STOPWORDS_GERMAN
    (tmp_path / f"{language}.txt").write_text("\n".join(words), encoding="utf-8")
    (tmp_path / "config.json").write_text("{}")
    return fastembed.Bm25("Qdrant/bm25", language=language, specific_model_path=str(tmp_path), **options)


@pytest.mark.parametrize("average", [256, 12.5])
@pytest.mark.parametrize("language", ["english", "german"])
def test_documents_and_queries_are_those_of_fastembed(tmp_path: Path, language: str, average: float) -> None:
    model = theirs(tmp_path, language, avg_len=average)
    texts = [*TEXTS, "Die Organisation der Universität: Übungen, Häuser und größere Abende"]
    ours = Bm25(compatible_with="fastembed", language=language, average_length=average)
    ours.calibrate(ours.measure(texts))  # as populate and adopt do; their length is a constant
    for expected, vectors in (
        (model.embed(texts), ours.encode_document(texts)),
        (model.query_embed(texts), ours.encode_query(texts)),
    ):
        for text, one, vector in zip(texts, expected, vectors, strict=True):
            own = dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True))
            assert own == pytest.approx(dict(zip(one.indices.tolist(), one.values.tolist(), strict=True))), text


def test_terms_are_decoded_as_words() -> None:
    encoder = Bm25(compatible_with="fastembed")
    assert encoder.assumed is None
    (vector,) = encoder.encode_document(["evenings at the universities, a university"])
    assert {word for word, _ in encoder.decode(vector)} == {"evenings", "university"}


@pytest.mark.parametrize("options", [{"language": "none"}, {"stopwords": []}, {"ascii_folding": True}])
def test_options_that_fastembed_does_not_have_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RegistryError, match=r"has fixed rules for words|unsupported language"):
        Registry.default().create("bm25", {"compatible_with": "fastembed", **options})
