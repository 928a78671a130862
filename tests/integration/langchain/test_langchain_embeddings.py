"""Encoders as LangChain's embeddings: the same vectors, by slot, by adapter, and beside a running event loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_qdrant.sparse_embeddings import SparseVector

from diptych import Registry
from diptych.encoders import Encoders
from diptych.errors import AdapterOptionsError, UnknownAdapter
from diptych.testing import FakeDenseEncoder, FakeSparseEncoder
from diptych_adapters.langchain import DiptychEmbeddings, DiptychSparseEmbeddings

CONFIG = """
store: "memory:"
collection: packages
slots:
  dense: {adapter: static, model: nowhere}
  lexical: {adapter: bm25, language: english, average_length: 4}
"""
TEXTS = ["convert audio files", "read mail"]


def test_dense_vectors_are_the_encoders_own_on_both_sides(encoders: Encoders) -> None:
    options = {"dimension": 16, "query_prompt": "query"}
    embeddings = DiptychEmbeddings("fake-dense", options=options, source=encoders)
    encoder = FakeDenseEncoder(**options)  # type: ignore[arg-type]
    assert np.array_equal(np.array(embeddings.embed_documents(TEXTS), np.float32), encoder.encode_document(TEXTS))
    assert np.array_equal(np.array(embeddings.embed_query("audio"), np.float32), encoder.encode_query(["audio"])[0])
    assert embeddings.embed_documents([]) == []


def test_sparse_vectors_are_the_encoders_own(encoders: Encoders) -> None:
    embeddings = DiptychSparseEmbeddings("fake-sparse", source=encoders)
    (expected,) = FakeSparseEncoder().encode_query(["audio files"])
    found = embeddings.embed_query("audio files")
    assert found == SparseVector(indices=expected.indices.tolist(), values=expected.values.tolist())
    assert embeddings.embed_documents(["audio files"]) == [found]


async def test_coroutines_give_the_same_vectors(encoders: Encoders) -> None:
    dense, sparse = (
        DiptychEmbeddings("fake-dense", source=encoders),
        DiptychSparseEmbeddings("fake-sparse", source=encoders),
    )
    assert await dense.aembed_query("audio") == dense.embed_query("audio")
    assert await dense.aembed_documents(TEXTS) == dense.embed_documents(TEXTS)
    assert await sparse.aembed_query("audio") == sparse.embed_query("audio")
    assert await sparse.aembed_documents(TEXTS) == sparse.embed_documents(TEXTS)


def test_a_config_file_or_an_adapter_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "diptych.yaml").write_text(CONFIG)
    by_slot = DiptychSparseEmbeddings("lexical", source=tmp_path / "diptych.yaml")
    by_adapter = DiptychSparseEmbeddings("bm25", options={"language": "english", "average_length": 4})
    assert by_slot.embed_documents(TEXTS) == by_adapter.embed_documents(TEXTS)
    assert repr(by_slot) == "DiptychSparseEmbeddings('lexical')"


def test_bm25_assumes_the_average_length_of_fastembed_and_says_so() -> None:
    lexical, told = (DiptychSparseEmbeddings("bm25", options=options) for options in ({}, {"average_length": 256}))
    assert lexical.embed_query("audio").values == [1.0]
    with pytest.warns(UserWarning, match=r"bm25 assumes .*256.*set average_length"):
        assert lexical.embed_documents(TEXTS) == told.embed_documents(TEXTS)
    assert lexical.embed_documents(TEXTS) == told.embed_documents(TEXTS), "said once"


def test_an_open_collection_lends_its_encoders_with_what_they_measured(opened: Any) -> None:
    collection = opened({"lexical": {"adapter": "fake-calibrated"}})
    collection.populate([{"id": "a", "text": "one two three"}, {"id": "b", "text": "four"}])
    lexical = DiptychSparseEmbeddings("lexical", source=collection.encoders)
    (wanted,) = collection.handle.slot("lexical").encoder.encode_document(["one two"])
    assert lexical.embed_documents(["one two"])[0].values == wanted.values.tolist()


def test_an_encoder_of_another_kind_is_refused_at_once(encoders: Encoders) -> None:
    with pytest.raises(AdapterOptionsError, match=r"(?s)'fake-sparse' makes no dense vectors.*got: sparse"):
        DiptychEmbeddings("fake-sparse", source=encoders)
    with pytest.raises(AdapterOptionsError, match="'fake-dense' makes no sparse vectors"):
        DiptychSparseEmbeddings("fake-dense", source=encoders)
    with pytest.raises(UnknownAdapter, match="did you mean 'fake-dense'"):
        DiptychEmbeddings("fake-dence", source=encoders)


def test_no_representation_shows_options_which_may_hold_secrets(fakes: Registry) -> None:
    embeddings = DiptychEmbeddings(
        "fake-dense", options={"query_prompt": "s3cret"}, source=Encoders.open(registry=fakes)
    )
    assert "s3cret" not in f"{embeddings!r} {embeddings.encoder!r} {vars(embeddings)!r}"
