"""Every filter finds the nodes that LlamaIndex's own filter function finds, on every store."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from diptych import Document
from diptych.errors import SearchError
from diptych_adapters.llama_index import DiptychVectorStore
from named_server import require_version

SINGLE: list[tuple[str, FilterOperator, Any]] = [
    ("section", FilterOperator.EQ, "sound"),
    ("section", FilterOperator.EQ, "nothing"),
    ("section", FilterOperator.NE, "sound"),
    ("section", FilterOperator.IN, ["sound", "net"]),
    ("section", FilterOperator.IN, []),
    ("section", FilterOperator.NIN, ["sound", "net"]),
    ("section", FilterOperator.NIN, []),
    ("title", FilterOperator.EQ, "Title 3"),
    ("title", FilterOperator.NE, "Title 3"),
    ("title", FilterOperator.IN, ["Title 1", "Title 2"]),
    ("title", FilterOperator.NIN, ["Title 1", "Title 2"]),
    ("title", FilterOperator.IS_EMPTY, None),
    ("year", FilterOperator.EQ, 1993),
    ("year", FilterOperator.EQ, 1993.0),
    ("year", FilterOperator.NE, 1993),
    ("year", FilterOperator.GT, 1999),
    ("year", FilterOperator.GTE, 1999),
    ("year", FilterOperator.LT, 1999),
    ("year", FilterOperator.LTE, 1999.5),
    ("year", FilterOperator.IN, [1991, 1993, 2050]),
    ("year", FilterOperator.NIN, [1991, 1993]),
    ("rating", FilterOperator.EQ, 1.5),
    ("rating", FilterOperator.EQ, 2),
    ("rating", FilterOperator.IN, [0.25, 1.5]),
    ("rating", FilterOperator.GT, 3.25),
    ("day", FilterOperator.GTE, "2024-01-10"),
    ("day", FilterOperator.LT, "2024-01-10"),
    ("tags", FilterOperator.CONTAINS, "t1"),
    ("tags", FilterOperator.ANY, ["t1", "u2"]),
    ("tags", FilterOperator.ANY, []),
    ("tags", FilterOperator.ALL, ["t1", "u2"]),
    ("tags", FilterOperator.ALL, []),
    ("note", FilterOperator.IS_EMPTY, None),
    ("nobody", FilterOperator.IS_EMPTY, None),
    ("nobody", FilterOperator.EQ, "x"),
    ("nobody", FilterOperator.NE, "x"),
]
AND, OR, NOT = FilterCondition.AND, FilterCondition.OR, FilterCondition.NOT


def one(key: str, operator: FilterOperator, value: Any) -> MetadataFilter:
    return MetadataFilter(key=key, operator=operator, value=value)


def joined(condition: FilterCondition, *filters: MetadataFilter | MetadataFilters) -> MetadataFilters:
    return MetadataFilters(filters=list(filters), condition=condition)


SOUND, LATE = one("section", FilterOperator.EQ, "sound"), one("year", FilterOperator.GT, 2005)
TAGGED, UNDATED = one("tags", FilterOperator.ANY, ["t1", "t2"]), one("year", FilterOperator.NE, 1993)
NESTED = [
    joined(AND, SOUND, LATE),
    joined(OR, SOUND, LATE),
    joined(NOT, SOUND, LATE),
    joined(AND, SOUND, joined(OR, LATE, TAGGED)),
    joined(OR, joined(AND, SOUND, LATE), joined(NOT, TAGGED, UNDATED)),
    joined(NOT, joined(AND, SOUND, LATE), joined(NOT, TAGGED)),
    joined(AND, joined(NOT, joined(NOT, joined(OR, SOUND, TAGGED)))),
    joined(AND, SOUND, joined(OR)),
]


def fits(node: TextNode, filters: MetadataFilters) -> bool:
    """What LlamaIndex's function says of each filter, joined; itself it does not nest."""
    parts = [part for part in filters.filters if isinstance(part, MetadataFilter) or part.filters]
    found = [fits(node, part) if isinstance(part, MetadataFilters) else _fits(node, part) for part in parts]
    return {AND: all(found), OR: any(found), NOT: not any(found)}[filters.condition or AND]


def _fits(node: TextNode, filter: MetadataFilter) -> bool:
    if node.metadata.get(filter.key) is None:  # releases of LlamaIndex differ here; this is what the newest say
        return filter.operator in (FilterOperator.NE, FilterOperator.NIN, FilterOperator.IS_EMPTY)
    return build_metadata_filter_fn(lambda _: node.metadata, MetadataFilters(filters=[filter]))("")


def found(store: DiptychVectorStore, filters: MetadataFilters) -> set[str]:
    return {node.node_id for node in store.get_nodes(filters=filters)}


def test_each_operator_and_each_nesting_finds_what_brute_force_finds(opened: Any, nodes: list[TextNode]) -> None:
    store = DiptychVectorStore(opened())
    store.add(nodes)
    every = [*(joined(AND, one(*case)) for case in SINGLE), *NESTED]
    texts = {FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE}
    assert {operator for _, operator, _ in SINGLE} == set(FilterOperator) - texts
    for filters in every:
        wanted = {node.node_id for node in nodes if fits(node, filters)}
        assert found(store, filters) == wanted, filters
    assert sum(0 < len(found(store, filters)) < len(nodes) for filters in every) > 35, "most filters tell nodes apart"


def test_a_filter_holds_for_queries_and_deletion_too(opened: Any, nodes: list[TextNode]) -> None:
    store = DiptychVectorStore(opened())
    store.add(nodes)
    filters = joined(AND, SOUND, joined(NOT, LATE))
    wanted = {node.node_id for node in nodes if fits(node, filters)}
    result = store.query(VectorStoreQuery(query_str="word1 word2", similarity_top_k=30, filters=filters))
    assert set(result.ids or ()) == wanted
    store.delete_nodes(filters=filters)
    assert {node.node_id for node in store.get_nodes()} == {node.node_id for node in nodes} - wanted


def test_titles_of_documents_that_others_wrote_are_found_by_the_same_key(opened: Any, nodes: list[TextNode]) -> None:
    collection = opened()
    store = DiptychVectorStore(collection)
    store.add(nodes[:4])
    collection.populate([Document("other", "words", "Title 3"), Document("untitled", "words")])
    assert found(store, joined(AND, one("title", FilterOperator.EQ, "Title 3"))) == {"node-3", "other"}
    assert found(store, joined(AND, one("title", FilterOperator.NE, "Title 3"))) == {
        *("node-0", "node-1", "node-2", "untitled")
    }


@pytest.mark.parametrize("indexes", [{}, {"note": "text"}], ids=["no index", "text index"])
def test_a_text_match_is_of_whole_words_in_any_order_and_case(
    opened: Any, nodes: list[TextNode], indexes: dict[str, str]
) -> None:
    collection = opened(populate={"indexes": indexes})
    if not indexes:
        require_version(collection.client, (1, 19, 1), "text matches of whole words without a text index")
    store = DiptychVectorStore(collection)
    store.add(nodes)
    for operator in (FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE):
        for value in ("Loud", "lOUD", "here loud", "Lou", "quiet", "loud quiet"):
            wanted = {
                node.node_id
                for node in nodes
                if set(value.lower().split()) <= set(str(node.metadata.get("note")).lower().split())
            }
            assert found(store, joined(AND, one("note", operator, value))) == wanted, value


@pytest.mark.parametrize(
    ("filter", "says"),
    [
        (("section", FilterOperator.EQ, None), r"(?s)== needs one value.*'section'.*is_empty finds what is missing"),
        (("section", FilterOperator.EQ, ["a"]), r"(?s)== needs one value.*\['a'\]"),
        (("section", FilterOperator.IN, "a,b"), r"(?s)in needs a list.*'a,b'"),
        (("section", FilterOperator.GT, "b"), r"(?s)> cannot be ordered by Qdrant.*ISO 8601"),
        (("section", FilterOperator.TEXT_MATCH, 3), r"(?s)text_match needs a text.*got: text_match 3"),
    ],
)
def test_what_qdrant_cannot_answer_is_refused(opened: Any, nodes: list[TextNode], filter: Any, says: str) -> None:
    store = DiptychVectorStore(opened())
    store.add(nodes[:3])
    with pytest.raises(SearchError, match=says):
        store.get_nodes(filters=joined(AND, one(*filter)))


def test_an_operator_that_llama_index_may_add_is_refused_not_left_out(opened: Any, nodes: list[TextNode]) -> None:
    store = DiptychVectorStore(opened())
    store.add(nodes[:3])
    new = MetadataFilter.model_construct(key="section", value="s", operator="starts_with")  # type: ignore[arg-type]
    filters = MetadataFilters.model_construct(filters=[new], condition=AND)
    with pytest.raises(SearchError, match=r"(?s)starts_with is not known here.*expected: ==, >"):
        store.get_nodes(filters=filters)
