"""Values that nobody should pass to a collection: names, addresses, tenants, ids, vectors, queries and payloads.

Each is taken, rejected, or refused by an error of diptych's own that can be printed; nothing else comes out.
"""

from __future__ import annotations

import datetime
import decimal
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from diptych import Collection, Document
from diptych.config import parse_config
from diptych.errors import DiptychError, PopulateError, SearchError
from diptych.registry import Registry
from diptych.search import Retrieve
from diptych.stores import open_store
from diptych.testing import fakes_plugin
from diptych.types import SparseVector

SLOTS = {
    "lexical": {"adapter": "fake-sparse"},
    "dense": {"adapter": "fake-dense"},
    "late": {"adapter": "fake-multivector"},
}
TEXTS = ["", " ", "\0", "\ud800", "\u202e", "a" * 300, "a" * 70_000, "ü" * 130, "..", "a/b", "c:d", "\n"]
OTHERS: list[Any] = [None, True, 5, 1.5, 16**4000, b"x", ["a"], {"a": 1}, object()]


def opened(folder: Path, name: str = "c", **sections: Any) -> Collection:
    config = parse_config({"store": f"edge:{folder / 'qdrant'}", "collection": "c", "slots": SLOTS, **sections})
    return Collection.open(config, name, registry=Registry(fakes_plugin, installed=False))


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    with opened(tmp_path_factory.mktemp("values")) as found:
        found.populate([Document("1", "words here", metadata={"year": 1897})], report_path=Path("/dev/null"))
        yield found


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    with opened(tmp_path_factory.mktemp("tenants"), tenant={"field": "who"}) as found:
        found.populate([Document("1", "words", metadata={"who": "a"})])
        yield found


def told(work: Callable[[], Any]) -> str:
    """The error's text, or nothing; whatever is no error of diptych's own is raised."""
    try:
        work()
    except DiptychError as error:
        found = str(error)
        found.encode()
        return found
    return ""


def unchecked(model: Any, **fields: Any) -> Any:
    """A model of qdrant-client with fields that its own checks would refuse."""
    return model.model_construct(**fields)


def shown(value: Any) -> str:
    """The name of a case: the same in every process, so without addresses."""
    try:
        name = ascii(value)
    except ValueError:
        return type(value).__name__
    return type(value).__name__ if " at 0x" in name else name[:30]


@pytest.mark.parametrize("name", TEXTS, ids=shown)
def test_a_collection_of_any_name_is_filled_or_its_name_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def filled() -> None:
        with opened(tmp_path, name) as collection:
            report = collection.populate([Document("1", "words"), {"id": "2"}])
            assert (report.new, report.set_aside) == (1, 1)
            assert len(list(tmp_path.glob("diptych-set-aside-*.jsonl"))) == 1

    error = told(filled)
    assert not error or "name of a collection" in error


@pytest.mark.parametrize("name", [*TEXTS, *OTHERS], ids=shown)
def test_no_name_of_a_collection_is_an_unexpected_error(name: Any, tmp_path: Path) -> None:
    assert told(lambda: Collection.open(f"edge:{tmp_path}", name))


@pytest.mark.parametrize(
    "url",
    ["edge:", "edge:\0", "edge:\ud800", "edge:" + "a" * 300, "edge:" + "a" * 5000, "edge:/dev/null",
    "edge:/proc/1/x", "http://\ud800",
     "http://[", "http://a:99999", "http://a:b", "http://host\0", "https://" + "a" * 70_000, "grpc://",
    "grpc://[::1", "nope:", "", "\0"],
    ids=shown,
)  # fmt: skip
def test_an_address_that_is_none_is_refused(url: str) -> None:
    assert told(lambda: open_store(url, create=False))
    assert told(lambda: Collection.open(url, "c", create=False))


@pytest.mark.parametrize("tenant", [*TEXTS, *OTHERS], ids=shown)
def test_a_tenant_of_any_kind_is_taken_or_refused(tenants: Collection, tenant: Any) -> None:
    asks: list[Callable[[], Any]] = [
        lambda: tenants.search("words", tenant=tenant),
        lambda: tenants.get(["1"], tenant=tenant),
        lambda: tenants.count(tenant=tenant),
        lambda: list(tenants.documents(tenant=tenant)),
        lambda: tenants.for_tenant(tenant).search("words"),
        lambda: tenants.delete(["nothing"], tenant=tenant),
    ]
    outcomes = [told(ask) for ask in asks]
    assert all("tenant" in outcome or not outcome for outcome in outcomes)
    told(lambda: tenants.populate([Document("9", "words")], tenant=tenant, report_path=Path("/dev/null")))
    report = tenants.populate([Document("9", "words", metadata={"who": tenant})], report_path=Path("/dev/null"))
    assert report.read == 1


@pytest.mark.parametrize(
    "ids", [None, 5, "abc", [None], [5], [b"x"], ["\ud800"], ["\0"], [""], ["a" * 70_000]], ids=shown
)
def test_ids_of_any_kind_are_looked_for_or_refused(collection: Collection, ids: Any) -> None:
    assert not told(lambda: collection.get(["1"]))
    outcomes = {told(lambda: collection.get(ids)), told(lambda: collection.delete(ids))}
    assert all(
        "ids are not a list of texts" in outcome or "no condition is given" in outcome or not outcome
        for outcome in outcomes
    )


@pytest.mark.parametrize("query", [*TEXTS, *OTHERS, "x" * 2_000_000], ids=shown)
def test_a_query_of_any_kind_is_answered_or_refused(collection: Collection, query: Any) -> None:
    told(lambda: collection.search(query))
    told(lambda: collection.explain(query))
    told(lambda: collection.search_groups(query, group_by="year"))


ODD_NUMBERS: list[Any] = [0, -1, 1.5, True, "3", None, 2**31, 2**63, 2**70, 16**4000, float("nan"), float("inf")]


@pytest.mark.parametrize(("option", "value"), [
    *itertools.product(["limit", "offset", "score_threshold"], ODD_NUMBERS),
    *itertools.product(["with_payload"], [5, None, "text", [5], ["\ud800"], ["a["], ["a" * 70_000], ["x"] * 100_000]),
    *itertools.product(["params", "pipeline", "filter", "tenant"], [5, "x", {"must": 5}, {"must": []}, ["a"],
    object()]),
], ids=shown)  # fmt: skip
def test_an_option_of_any_kind_is_taken_or_refused(collection: Collection, option: str, value: Any) -> None:
    told(lambda: collection.search("words", **{option: value}))


@pytest.mark.parametrize("params", [
    models.SearchParams(hnsw_ef=0, exact=True), models.SearchParams(hnsw_ef=2**70), models.SearchParams(hnsw_ef=-1),
    unchecked(models.SearchParams, hnsw_ef="x"), unchecked(models.SearchParams, quantization=5),
], ids=shown)  # fmt: skip
def test_search_parameters_of_any_kind_are_taken_or_refused(
    collection: Collection, params: models.SearchParams
) -> None:
    told(lambda: collection.search("words", params=params))


@pytest.mark.parametrize("filter", [
    models.Filter(must=[models.FieldCondition(key="year", match=models.MatchValue(value=2**70))]),
    models.Filter(must=[models.FieldCondition(key="\ud800", match=models.MatchValue(value=1))]),
    models.Filter(must=[models.FieldCondition(key="a[", match=models.MatchValue(value=1))]),
    models.Filter(must=[models.FieldCondition(key="memory: os error 5", match=models.MatchValue(value=1))]),
    models.Filter(must=[models.FieldCondition(key="a", geo_radius=models.GeoRadius(
        center=models.GeoPoint(lon=0, lat=91), radius=1))]),
    models.Filter(must=[models.FieldCondition(key="a", values_count=models.ValuesCount(gt=-1))]),
    models.Filter(must=[models.HasIdCondition(has_id=[-1])]),
    models.Filter(must=[models.HasIdCondition(has_id=["no uuid"])]),
    unchecked(models.Filter, must="x"),
    unchecked(models.Filter, must=[5]),
], ids=shown)  # fmt: skip
def test_a_filter_that_no_store_takes_is_the_callers_error_at_once(
    collection: Collection, filter: models.Filter
) -> None:
    for ask in (lambda: collection.search("words", filter=filter), lambda: list(collection.documents(filter))):
        with pytest.raises(SearchError, match=FAULTY):
            ask()
    with pytest.raises(SearchError, match=FAULTY):
        collection.count(filter)


FAULTY = "filter cannot be used|refuses|not a point id|not a condition"


def sparse(indices: list[int], values: list[float]) -> SparseVector:
    return SparseVector(np.array(indices, np.int64), np.array(values, np.float32))


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("vector", [
    None, "x", b"abc", 5, 16**4000, {"a": 1}, [1], ["a"], [None], [[1, 2], [3]], [1e39] * 8, [1j] * 8,
    [float("nan")] * 8, [10**400] * 8,
    np.zeros((0,)), np.zeros((1, 1, 1)), sparse([1], [float("nan")]), sparse([2, 1], [1, 1]), sparse([1, 1], [1, 1]),
    sparse([-1], [1]),
    sparse([2**40], [1]),
], ids=shown)  # fmt: skip
def test_a_vector_that_does_not_fit_is_refused(collection: Collection, slot: str, vector: Any) -> None:
    with pytest.raises(SearchError, match="does not fit the slot"):
        collection.search_by_vector(vector, Retrieve(slot))


CYCLE: dict[str, Any] = {}
CYCLE["inside"] = CYCLE
REFUSED: list[Any] = [
    float("nan"), float("inf"), 2**64, -(2**63) - 1, 10**400, 16**5000, b"x", {1, 2}, datetime.timedelta(1),
    object(), CYCLE, {"\ud800": 1},
    {"a": "\ud800"}, {1: 2}, {None: 1}, np.float32("nan"), np.array([1.0, np.nan]), decimal.Decimal("NaN"),
    decimal.Decimal("sNaN"),
    decimal.Decimal("1e400"), 1j, range(3), iter([1]), np.bytes_(b"x"), Path("/x"), np.void(b"x"),
]  # fmt: skip
TAKEN: list[Any] = [
    0, 2**64 - 1, -(2**63), 1e39, True, None, "\0", {"": 1}, {"a" * 70_000: 1}, datetime.date(2020, 1, 1),
    np.int64(3), np.str_("x"),
    np.datetime64("2020-01-01"), decimal.Decimal("1.5"), [], {}, [[1, [2]]],
]  # fmt: skip


@pytest.mark.parametrize("value", REFUSED, ids=shown)
def test_metadata_that_no_store_keeps_is_set_aside_with_its_reason(
    collection: Collection, value: Any, tmp_path: Path
) -> None:
    report = collection.populate([Document("x", "words", metadata={"v": value})], report_path=tmp_path / "aside.jsonl")
    assert (report.new, report.set_aside) == (0, 1)
    assert "x" in (tmp_path / "aside.jsonl").read_text()


@pytest.mark.parametrize("value", TAKEN, ids=shown)
def test_metadata_of_json_is_kept(collection: Collection, value: Any, tmp_path: Path) -> None:
    report = collection.populate(
        [Document(f"t{shown(value)}", "words", metadata={"v": value})], report_path=tmp_path / "a"
    )
    assert (report.new, report.set_aside) == (1, 0)


@pytest.mark.parametrize("raw", [
    None, 5, [], "x", {}, {"id": "x"}, {"id": True, "text": "a"}, {"id": 1.5, "text": "a"}, {"id": 16**4000,
    "text": "a"},
    {"id": "\ud800", "text": "a"}, {"id": "a", "text": "\ud800"}, {"id": "a", "text": b"x"}, {"id": "a", "text": 5},
    {"id": "", "text": "x"},
    {"id": "t", "text": "x", "title": "\ud800"}, {"id": "t", "text": "x", "title": 5}, {"id": "t", "text": "x",
    "metadata": 5},
    {"id": "t", "text": "x", 5: 5}, {"id": "t", "text": "x", "\ud800": 5}, {"_id": [1], "text": "x"},
    {"id": {"a": 1}, "text": "x"},
    {"id": "z", "text": " "}, {"id": "t", "text": "x" * 2_000_000},
], ids=shown)  # fmt: skip
def test_what_is_no_document_is_set_aside(collection: Collection, raw: Any, tmp_path: Path) -> None:
    report = collection.populate([raw], report_path=tmp_path / "aside.jsonl")
    assert (report.new, report.set_aside) == (0, 1)


@pytest.mark.parametrize("path", ["a" * 300, "\0", "\ud800", "/dev/null/x"], ids=shown)
def test_a_report_that_cannot_be_written_is_refused(collection: Collection, path: str) -> None:
    with pytest.raises(PopulateError, match=r"path of a report|cannot be written"):
        collection.populate([{"id": "x"}], report_path=Path(path))
