"""No question about one tenant is answered with another's documents, whatever else it asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qdrant_client import models

from diptych import Collection
from diptych.search import Dbsf, Diversify, Fusion, Linear, Pipeline, Rerank, Rescore, Retrieve, Rrf
from diptych.types import Document

from .conftest import TENANTS, WORDS

WHOEVER = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def matching(key: str, value: str | int) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


conditions = st.sampled_from(
    [
        *(matching("customer", tenant) for tenant in TENANTS),
        *(matching("kind", kind) for kind in (0, 1)),
        models.FieldCondition(key="customer", match=models.MatchAny(any=list(TENANTS))),
        models.FieldCondition(key="customer", match=models.MatchExcept(**{"except": ["a"]})),
        models.IsEmptyCondition(is_empty=models.PayloadField(key="nothing")),
        models.IsNullCondition(is_null=models.PayloadField(key="customer")),
        models.FieldCondition(key="_diptych.id", match=models.MatchAny(any=["1", "2"])),
    ]
)


def filters(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[models.Filter]:
    some = st.lists(inner, max_size=3)
    least = st.builds(
        lambda found: models.MinShould(conditions=found, min_count=1), st.lists(inner, min_size=1, max_size=3)
    )
    return st.builds(
        lambda must, should, must_not, min_should: models.Filter(
            must=must or None, should=should or None, must_not=must_not or None, min_should=min_should
        ),
        some,
        some,
        some,
        st.none() | least,
    )


callers_filters = st.none() | filters(st.recursive(conditions, filters, max_leaves=6))
corpora = st.none() | st.builds(
    lambda corpus: models.SearchParams(idf=models.IdfCorpusParams(corpus=corpus)), filters(conditions)
)
candidates = st.integers(1, 20)
branches = st.lists(st.sampled_from(["dense", "short", "lexical", "late"]), min_size=1, max_size=3, unique=True)


@st.composite
def pipelines(draw: st.DrawFn) -> Pipeline:
    retrieve = tuple(
        Retrieve(slot, draw(candidates), params=draw(corpora) if slot == "lexical" else None) for slot in draw(branches)
    )
    fusions: st.SearchStrategy[Fusion] = st.sampled_from(
        [Rrf(), Rrf(weights={retrieve[0].slot: 2.0}), Dbsf(), Linear("zscore"), Linear("minmax")]
    )
    found = Pipeline(retrieve, draw(fusions) if len(retrieve) > 1 else None)
    stages = (Rescore("late", draw(candidates)), Diversify("dense", 0.5, draw(candidates)), Rerank("fake-reranker", 9))
    for stage in stages:
        found = found >> stage if draw(st.booleans()) else found
    return found


queries = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join)


def owners(found: Iterable[Document]) -> set[str]:
    return {document.metadata["customer"] for document in found}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Local mode performs exact")
@given(query=queries, tenant=st.sampled_from(TENANTS), filter=callers_filters, pipeline=pipelines())
@WHOEVER
def test_no_filter_and_no_pipeline_brings_anothers_document(
    filled: Collection, query: str, tenant: str, filter: models.Filter | None, pipeline: Pipeline
) -> None:
    limit = pipeline.depth or 20
    found = filled.search(query, tenant=tenant, filter=filter, pipeline=pipeline, limit=limit)
    assert owners(hit.document for hit in found) <= {tenant}
    batch = filled.for_tenant(tenant).search_batch([query, "red"], filter=filter, pipeline=pipeline, limit=limit)
    assert owners(hit.document for own in batch for hit in own) <= {tenant}
    groups = filled.search_groups(
        query, group_by="customer", tenant=tenant, filter=filter, pipeline=pipeline, limit=min(3, limit), group_size=5
    )
    assert {group.value for group in groups} <= {tenant}
    assert owners(hit.document for group in groups for hit in group.hits) <= {tenant}
    explained = filled.explain(query, tenant=tenant, filter=filter, pipeline=pipeline, limit=limit)
    assert owners(explanation.document for explanation in explained) <= {tenant}


@given(tenant=st.sampled_from(TENANTS), filter=callers_filters)
@WHOEVER
def test_nor_do_a_filter_and_a_vector(filled: Collection, tenant: str, filter: models.Filter | None) -> None:
    assert owners(filled.documents(filter, tenant=tenant)) <= {tenant}
    for slot, vector in (("dense", np.ones(8, np.float32)), ("late", np.ones((2, 8), np.float32))):
        found = filled.search_by_vector(vector, Retrieve(slot), filter=filter, limit=20, tenant=tenant)
        assert owners(hit.document for hit in found) <= {tenant}


def test_searches_that_are_gathered_keep_to_their_tenants(filled: Collection) -> None:
    async def all_at_once() -> list[tuple[str, set[str]]]:
        asked = [(tenant, filled.asearch(word, tenant=tenant)) for word in WORDS for tenant in TENANTS]
        hits = await asyncio.gather(*(search for _, search in asked))
        return [(tenant, owners(hit.document for hit in own)) for (tenant, _), own in zip(asked, hits, strict=True)]

    assert all(found == {tenant} for tenant, found in asyncio.run(all_at_once()))


def test_a_tenant_without_documents_finds_nothing(filled: Collection) -> None:
    assert owners(filled.documents(filled.having(["1", "2"], tenant="a"), tenant="a")) == {"a"}
    nobody = filled.for_tenant("nobody")
    assert (nobody.search("red"), nobody.get(["1"]), nobody.count()) == ([], [], 0)


def test_documents_are_read_explained_and_deleted_by_their_tenants_alone(opened: Any) -> None:
    collection = opened()
    collection.populate([{"id": "1", "text": "red", "customer": "a"}, {"id": "2", "text": "blue", "customer": "b"}])
    a, b = collection.for_tenant("a"), collection.for_tenant("b")
    assert [document.text for document in a.get(["1", "2"])] == ["red"]
    with pytest.raises(Exception, match="there is no such document"):
        a.explain("blue", ids=["2"])
    assert (a.delete(["2"]), b.count()) == (0, 1)
    assert (collection.delete(["2"], tenant="b"), b.count(), a.count()) == (1, 0, 1)
