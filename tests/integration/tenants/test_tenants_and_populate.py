"""What populate does with the documents of several tenants."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diptych.errors import SyncRefused, TenantError

from .conftest import Open, documents

OPTIONAL = {"field": "customer", "required": False}


def reasons() -> list[str]:
    (path,) = Path().glob("diptych-set-aside-*.jsonl")
    return [json.loads(line)["reason"] for line in path.read_text().splitlines()]


def test_tenants_have_ids_of_their_own(opened: Open) -> None:
    collection = opened()
    both = [{"id": "1", "text": "red", "customer": "a"}, {"id": "1", "text": "blue", "customer": "b"}]
    assert collection.populate(both).new == 2
    again = collection.populate(both)
    assert (again.unchanged, sum(again.encoded.values())) == (2, 0)
    changed = collection.populate([{"id": "1", "text": "pink", "customer": "b"}])
    assert (changed.changed, collection.count()) == (1, 2)
    assert [[d.text for d in collection.get(["1"], tenant=t)] for t in ("a", "b")] == [["red"], ["pink"]]


def test_no_pair_of_tenant_and_id_reads_like_another(opened: Open) -> None:
    collection = opened()
    pairs = [("a", "b:c"), ("a:b", "c"), ("1:a", "b"), ("1", "a:b"), ("a:b:c", "d"), ("a", "b:c:d")]
    found = [{"id": identifier, "text": "red", "customer": tenant} for tenant, identifier in pairs]
    assert (collection.populate(found).new, collection.count()) == (len(pairs), len(pairs))


def test_documents_without_a_tenant_are_set_aside_where_one_is_required(opened: Open) -> None:
    collection = opened()
    bad: list[dict[str, Any]] = [
        {"id": "none", "text": "red"},
        {"id": "null", "text": "red", "customer": None},
        {"id": "number", "text": "red", "customer": 7},
        {"id": "list", "text": "red", "customer": ["a", "b"]},
        {"id": "empty", "text": "red", "customer": ""},
    ]
    report = collection.populate([*bad, {"id": "good", "text": "red", "customer": "a"}])
    assert (report.new, report.set_aside) == (1, 5)
    words = "the document names no tenant in its metadata 'customer' (expected it there, or for all documents: "
    assert [reason.startswith(words) for reason in reasons()[:2]] == [True, True]
    assert all(reason.startswith("the tenant in 'customer' is not text") for reason in reasons()[2:])


def test_a_tenants_populate_names_what_has_no_name_and_leaves_others_alone(opened: Open) -> None:
    a = opened().for_tenant("a")
    report = a.populate([{"id": "1", "text": "red"}, {"id": "2", "text": "blue", "customer": "b"}])
    assert (report.new, report.set_aside) == (1, 1)
    assert a.get(["1"])[0].metadata == {"customer": "a"}
    assert reasons() == ["the document belongs to another tenant than 'a' (got 'b')"]


def test_sync_deletes_what_one_tenant_has_no_more(opened: Open) -> None:
    collection = opened()
    collection.populate(documents())
    report = collection.populate(documents("a")[:3], sync=True, tenant="a", max_deleted=1)
    assert (report.deleted, report.unchanged) == (5, 3)
    assert [collection.for_tenant(tenant).count() for tenant in ("a", "b", "c")] == [3, 8, 8]
    assert collection.for_tenant("b").populate(documents("b")[:1], sync=True, max_deleted=1).deleted == 7


def test_how_many_a_sync_may_delete_is_a_share_of_the_tenants_documents(opened: Open) -> None:
    collection = opened()
    collection.populate(documents())
    with pytest.raises(SyncRefused, match=r"2 of 8 documents[^$]*tenant 'a'"):  # of 24 it would be few
        collection.for_tenant("a").populate(documents("a")[:6], sync=True)
    with pytest.raises(SyncRefused, match="8 of 8 documents"):
        collection.populate([{"id": "other", "text": "red"}], tenant="a", sync=True)
    assert [collection.for_tenant(tenant).count() for tenant in ("a", "b", "c")] == [8, 8, 8]
    trial = collection.for_tenant("a").populate(documents("a")[:6], sync=True, dry_run=True)
    assert (trial.deleted, trial.unchanged, len(trial.warnings)) == (2, 6, 1)
    assert collection.for_tenant("a").populate(documents("a")[:7], sync=True).deleted == 1


def test_a_source_without_a_small_tenant_does_not_delete_all_of_its_documents(opened: Open) -> None:
    collection = opened(tenant=OPTIONAL)
    large = [{"id": f"l{n}", "text": "red", "customer": "large"} for n in range(40)]
    small = [{"id": f"s{n}", "text": "blue", "customer": "small"} for n in range(3)]
    collection.populate([*large, *small])
    with pytest.raises(SyncRefused, match=r"3 of 3 documents[^$]*tenant 'small'"):  # 3 of 43 would be few
        collection.populate(large, sync=True)
    assert collection.count() == 43
    assert collection.populate([*large[2:], *small[1:]], sync=True).deleted == 3


def test_sync_keeps_what_a_tenants_source_has_in_an_unreadable_form(opened: Open) -> None:
    a = opened().for_tenant("a")
    a.populate([{"id": "1", "text": "red"}, {"id": "2", "text": "blue"}])
    report = a.populate([{"id": "1", "text": "red"}, {"id": "2", "text": ""}], sync=True)
    assert (report.deleted, report.set_aside, a.count()) == (0, 1, 2)


def test_sync_without_a_tenant_is_refused_where_it_would_delete_everybodys(opened: Open) -> None:
    collection = opened()
    collection.populate(documents())
    with pytest.raises(TenantError, match=r"(?s)a tenant is required.*sync"):
        collection.populate(documents("a"), sync=True)
    assert collection.count() == 24


def test_where_no_tenant_is_required_ids_are_the_collections(opened: Open) -> None:
    collection = opened(tenant=OPTIONAL)
    collection.populate([{"id": "1", "text": "red", "customer": "a"}, {"id": "2", "text": "blue"}])
    report = collection.populate(
        [{"id": "1", "text": "green", "customer": "b"}, {"id": "2", "text": "blue", "customer": "b"}]
    )
    assert (report.changed, report.set_aside) == (1, 1)
    assert reasons() == ["another tenant has a document of this id; ids are unique in this collection"]
    assert [collection.get([i])[0].metadata.get("customer") for i in ("1", "2")] == ["a", "b"]


def test_where_no_tenant_is_required_a_question_without_one_is_about_all(opened: Open) -> None:
    collection = opened(tenant=OPTIONAL)
    collection.populate([*documents("a", "b")[:9], {"id": "own", "text": "red of nobody"}])
    assert len(collection.search("red", limit=50)) == 9
    assert {hit.document.metadata["customer"] for hit in collection.search("red", tenant="a")} == {"a"}
    assert collection.populate([{"id": "own", "text": "red of nobody"}], sync=True, max_deleted=1).deleted == 8
