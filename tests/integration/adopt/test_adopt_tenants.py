"""Collections of others in which a metadata key says whose documents are whose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from diptych import Collection, Registry
from diptych.adopt import adopt
from diptych.config import Config
from diptych.errors import TenantError

WAYS = ("langchain-hybrid", "llama-index", "haystack-sparse", "fastembed", "by-hand")


def with_tenants(way: Any, field: str = "section") -> Config:
    given = way.config().model_dump(mode="json", exclude_none=True)
    return Config.model_validate({**given, "tenant": {"field": field}})


@pytest.mark.parametrize("name", WAYS)
def test_an_adopted_collection_keeps_its_tenants_apart(
    client: Any, ways: Mapping[str, Any], texts: list[Any], registry: Registry, name: str
) -> None:
    way, config = ways[name], with_tenants(ways[name])
    way.create(client)
    way.write(client, texts)
    assert not [warning for warning in adopt(client, "c", config, registry=registry).warnings if "tenant" in warning]
    collection = Collection.open(client, "c", registry=registry)
    with pytest.raises(TenantError):
        collection.search("word3")
    sections = {text.metadata["section"] for text in texts}
    assert len(sections) > 1
    for section in sections:
        own = collection.for_tenant(section)
        ids = {way.document_id(text) for text in texts if text.metadata["section"] == section}
        assert {hit.id for hit in own.search("word3 word10", limit=100)} <= ids
        assert own.count() == len(ids)
        assert {document.id for document in own.get([way.document_id(text) for text in texts])} == ids
        other = next(way.document_id(text) for text in texts if text.metadata["section"] != section)
        assert (own.delete([other]), collection.count()) == (0, len(texts))


def test_ids_of_an_adopted_collection_are_unique_among_all_tenants(
    client: Any, ways: Mapping[str, Any], texts: list[Any], registry: Registry
) -> None:
    way = ways["haystack-sparse"]
    way.create(client)
    way.write(client, texts)
    config = with_tenants(way)
    adopt(client, "c", config, registry=registry)
    collection = Collection.open(client, "c", registry=registry)
    report = collection.populate([{"id": way.document_id(texts[0]), "text": "stolen", "section": "somebody"}])
    assert (report.set_aside, report.new, report.changed) == (1, 0, 0)
    assert "another tenant has a document of this id" in report.examples[0].reason
    (kept,) = collection.get([way.document_id(texts[0])], tenant=texts[0].metadata["section"])
    assert kept.text == texts[0].text


def test_points_without_a_tenant_are_told(
    client: Any, ways: Mapping[str, Any], texts: list[Any], registry: Registry
) -> None:
    way = ways["langchain-hybrid"]
    way.create(client)
    way.write(client, texts)
    warnings = adopt(client, "c", with_tenants(way, "customer"), registry=registry).warnings
    assert "80 points name no tenant under 'metadata.customer': no tenant's question finds them" in warnings
