"""The specs of the lexical adapters."""

from __future__ import annotations

from diptych.specs import AdapterSpec

SPECS = [
    AdapterSpec(
        name="bm25",
        kind="sparse",
        factory="diptych_adapters.bm25:Bm25",
        summary="BM25 over stemmed words, with the corpus's own average length; Qdrant supplies the IDF",
        options="diptych_adapters.lexicon.options:Bm25Options",
        requires=("Stemmer", "bm25s"),
        extra="diptych",
        facts={"uses_idf": True},
        cached=False,
    ),
    AdapterSpec(
        name="ngrams",
        kind="sparse",
        factory="diptych_adapters.ngrams:NGrams",
        summary="BM25 over character n-grams, which finds words in spite of typing errors",
        options="diptych_adapters.lexicon.options:NGramOptions",
        extra="diptych",
        facts={"uses_idf": True},
        cached=False,
    ),
    AdapterSpec(
        name="qdrant-text-index",
        kind="text_index",
        factory="diptych_adapters.text_index:QdrantTextIndex",
        summary="Qdrant's own full-text index and BM25, without vectors; needs Qdrant 1.20 or Qdrant Edge",
        options="diptych_adapters.lexicon.text_index_options:TextIndexOptions",
        cached=False,
    ),
]
