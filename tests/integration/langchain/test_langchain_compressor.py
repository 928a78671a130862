"""A reranker as LangChain's document compressor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from langchain_core.documents import Document
from pydantic import ValidationError

from diptych import Registry
from diptych.encoders import Encoders
from diptych.errors import AdapterOptionsError
from diptych.protocols import Pair
from diptych.search import score
from diptych.testing import FakeReranker
from diptych.types import Floats
from diptych_adapters.langchain import DiptychCompressor

DOCUMENTS = [
    Document(id="mutt", page_content="read mail", metadata={"section": "mail"}),
    Document(id="sox", page_content="convert audio files", metadata={"section": "sound"}),
    Document(id="lame", page_content="encode audio", metadata={"section": "sound"}),
]


class Constant:
    """A reranker to which all are alike; `wrong` of them go missing."""

    max_length: int | None = None
    independent = True

    def __init__(self, wrong: int = 0) -> None:
        self.wrong = wrong

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        return np.ones(len(pairs) - self.wrong, np.float32)


def test_the_best_come_first_with_their_scores_and_else_as_they_were(encoders: Encoders) -> None:
    found = DiptychCompressor(reranker="fake-reranker", source=encoders).compress_documents(DOCUMENTS, "convert audio")
    assert [document.id for document in found] == ["sox", "lame", "mutt"]
    expected = score(FakeReranker(), "convert audio", [document.page_content for document in found])
    assert [document.metadata["relevance_score"] for document in found] == expected.tolist()
    assert found[0].metadata == {"section": "sound", "relevance_score": float(expected[0])}
    assert all("relevance_score" not in document.metadata for document in DOCUMENTS)


async def test_top_n_cuts_and_an_object_will_do(encoders: Encoders) -> None:
    compressor = DiptychCompressor(reranker=FakeReranker(), top_n=1)
    assert [document.id for document in await compressor.acompress_documents(DOCUMENTS, "read mail")] == ["mutt"]
    assert compressor.compress_documents([], "read mail") == []


def test_equal_scores_keep_their_order() -> None:
    found = DiptychCompressor(reranker=Constant()).compress_documents(DOCUMENTS, "anything")
    assert [document.id for document in found] == ["mutt", "sox", "lame"]


def test_what_cannot_rerank_is_refused_when_it_is_made(fakes: Registry, encoders: Encoders) -> None:
    with pytest.raises(AdapterOptionsError, match="adapter 'fake-dense' cannot rerank"):
        DiptychCompressor(reranker="fake-dense", source=encoders)
    with pytest.raises(AdapterOptionsError, match=r"(?s)this cannot rerank.*got: FakeDenseEncoder"):
        DiptychCompressor(reranker=fakes.create("fake-dense"))
    with pytest.raises(ValidationError, match=r"(?s)top_n.*greater than or equal to 1"):
        DiptychCompressor(reranker=FakeReranker(), top_n=0)
    with pytest.raises(ValidationError, match=r"(?s)top_k.*Extra inputs are not permitted"):
        DiptychCompressor(reranker=FakeReranker(), top_k=3)  # type: ignore[call-arg]
