"""Encoders as LangChain's embeddings: the same vectors, by slot, by adapter, and beside a running event loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from langchain_qdrant.sparse_embeddings import SparseVector

from diptych import Registry
from diptych.encoders import Encoders
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


def test_a_config_file_or_an_adapter_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "diptych.yaml").write_text(CONFIG)
    by_slot = DiptychSparseEmbeddings("lexical", source=tmp_path / "diptych.yaml")
    by_adapter = DiptychSparseEmbeddings("bm25", options={"language": "english", "average_length": 4})
    assert by_slot.embed_documents(TEXTS) == by_adapter.embed_documents(TEXTS)
    assert repr(by_slot) == "DiptychSparseEmbeddings('lexical')"


def test_an_open_collection_lends_its_encoders_with_what_they_measured(opened: Any) -> None:
    collection = opened({"lexical": {"adapter": "fake-calibrated"}})
    collection.populate([{"id": "a", "text": "one two three"}, {"id": "b", "text": "four"}])
    lexical = DiptychSparseEmbeddings("lexical", source=collection.encoders)
    (wanted,) = collection.handle.slot("lexical").encoder.encode_document(["one two"])
    assert lexical.embed_documents(["one two"])[0].values == wanted.values.tolist()


def test_no_representation_shows_options_which_may_hold_secrets(fakes: Registry) -> None:
    embeddings = DiptychEmbeddings(
        "fake-dense", options={"query_prompt": "s3cret"}, source=Encoders.open(registry=fakes)
    )
    assert "s3cret" not in f"{embeddings!r} {embeddings.encoder!r} {vars(embeddings)!r}"
