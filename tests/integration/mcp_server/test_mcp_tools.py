"""The tools, called by the SDK's own client."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
from mcp import Client
from mcp.types import TextContent

import long_documents
from diptych import Collection, Registry
from diptych.config import parse_config
from diptych.search import Retrieve
from diptych_serve.agents import mcp_server
from diptych_serve.service.served import Served
from named_server import emptied
from serving import animals

T = TypeVar("T")
FILTER = {"must": [{"key": "letter", "match": {"any": ["c", "o"]}}]}


@pytest.fixture(scope="module", params=["edge", "server"])
def collection(
    request: pytest.FixtureRequest, fakes: Registry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Collection]:
    with ExitStack() as stack:
        place = stack.enter_context(emptied("animals")) if request.param == "server" else {}
        yield stack.enter_context(animals(tmp_path_factory.mktemp("mcp"), fakes, **place))


@pytest.fixture(scope="module")
def served(collection: Collection, fakes: Registry) -> Served:
    return Served([collection], registry=fakes)


def with_client(
    served: Served, ask: Callable[[Client], Awaitable[T]], *, allow_populate: bool = False, tenant: str | None = None
) -> T:
    async def run() -> T:
        async with Client(mcp_server(served, allow_populate=allow_populate, tenant=tenant)) as client:
            return await ask(client)

    return asyncio.run(run())


def called(
    served: Served, tool: str, *, allow_populate: bool = False, bound: str | None = None, **arguments: Any
) -> Any:
    """The structured answer; the text says the same."""
    answer = with_client(served, lambda c: c.call_tool(tool, arguments), allow_populate=allow_populate, tenant=bound)
    (content,) = answer.content
    assert isinstance(content, TextContent)
    assert not answer.is_error, content.text
    assert json.loads(content.text) == answer.structured_content
    return answer.structured_content


def refused(served: Served, tool: str, *, allow_populate: bool = False, **arguments: Any) -> str:
    """What an error of a tool says."""
    answer = with_client(served, lambda client: client.call_tool(tool, arguments), allow_populate=allow_populate)
    (content,) = answer.content
    assert isinstance(content, TextContent)
    assert answer.is_error
    return content.text


def test_a_search_gives_the_collections_hits(served: Served, collection: Collection) -> None:
    answer = called(served, "search", query="the cat at night", limit=3)
    wanted = collection.search("the cat at night", limit=3)
    assert answer["collection"] == "animals"
    found = [(hit["id"], hit["text"], hit["metadata"]) for hit in answer["hits"]]
    assert found == [(hit.id, hit.document.text, hit.document.metadata) for hit in wanted]
    assert [hit["score"] for hit in answer["hits"]] == pytest.approx([hit.score for hit in wanted], abs=1e-6)


def test_filter_slot_and_length_of_texts_are_as_asked(served: Served, collection: Collection) -> None:
    hits = called(served, "search", query="night", filter=FILTER, pipeline="dense", text_length=7)["hits"]
    wanted = [hit for hit in collection.search("night", pipeline=Retrieve("dense")) if hit.id[0] in "co"]
    assert [hit["id"] for hit in hits] == [hit.id for hit in wanted]
    assert {hit["text"] for hit in hits} == {"the cat…", "the owl…"}


def test_an_explanation_adds_up_and_tells_of_what_was_lost(served: Served) -> None:
    answer = called(served, "explain", query="the cat at night", ids=["hen", "cat"])
    assert answer["pipeline"].startswith('Retrieve("dense"') or answer["pipeline"].startswith("Retrieve('dense'")
    assert [item["id"] for item in answer["explanations"]] == ["hen", "cat"]
    for item in answer["explanations"]:
        parts = [slot["contribution"] for slot in item["slots"].values()]
        assert sum(parts) == pytest.approx(item["fused"], abs=1e-5)
    assert len(called(served, "explain", query="the cat at night", limit=2)["explanations"]) == 2


def test_info_lists_collections_with_their_slots(served: Served) -> None:
    (found,) = called(served, "info")["collections"]
    assert (found["name"], found["documents"]) == ("animals", 4)
    assert {slot["name"]: slot["kind"] for slot in found["slots"]} == {
        "dense": "dense",
        "lexical": "sparse",
        "long": "dense",
    }
    assert "Rerank(" in found["pipeline"]


def test_tools_say_what_they_do_and_that_they_only_read(served: Served) -> None:
    tools = {tool.name: tool for tool in with_client(served, lambda client: client.list_tools()).tools}
    assert sorted(tools) == ["explain", "info", "search"]
    for tool in tools.values():
        assert tool.annotations is not None
        assert (tool.annotations.read_only_hint, tool.annotations.open_world_hint) == (True, False)
        assert tool.description
        assert tool.output_schema
    for name, facts in tools["search"].input_schema["properties"].items():
        assert facts.get("description"), name


def test_populate_is_there_only_when_it_is_allowed(served: Served) -> None:
    assert "Unknown tool" in refused(served, "populate", documents=[{"id": "a", "text": "b"}])
    tools = with_client(served, lambda client: client.list_tools(), allow_populate=True).tools
    (populate,) = [tool for tool in tools if tool.name == "populate"]
    assert populate.annotations is not None
    assert (populate.annotations.read_only_hint, populate.annotations.idempotent_hint) == (False, True)


def test_populate_twice_changes_and_encodes_nothing(fakes: Registry, tmp_path: Path) -> None:
    with animals(tmp_path, fakes) as opened:
        own = Served([opened], registry=fakes)
        documents = [
            {"id": "ape", "text": "the ape eats fruit", "metadata": {"letter": "a"}},
            {"id": "bad", "text": " "},
        ]
        first = called(own, "populate", documents=documents, allow_populate=True)
        assert (first["read"], first["new"], first["unchanged"]) == (2, 1, 0)
        assert [(one["id"], "empty document" in one["reason"]) for one in first["examples"]] == [("bad", True)]
        assert first["set_aside"] == 1
        encoded = opened.handle.slot("dense").encoder.encoded
        again = called(own, "populate", documents=documents, allow_populate=True)
        assert (again["new"], again["changed"], again["unchanged"]) == (0, 0, 1)
        assert opened.handle.slot("dense").encoder.encoded == encoded
        assert called(own, "search", query="fruit", limit=1)["hits"][0]["id"] == "ape"
        assert list(tmp_path.glob("*set-aside*")) == []


def test_a_sync_that_would_delete_too_much_is_refused_until_the_model_says_yes(fakes: Registry, tmp_path: Path) -> None:
    with animals(tmp_path, fakes) as opened:
        own = Served([opened], registry=fakes)
        before = opened.count()
        documents = [{"id": "cat", "text": "the cat sleeps"}]
        text = refused(own, "populate", allow_populate=True, documents=documents, sync=True)
        assert f"{before - 1} of {before}" in text
        assert "yes" in text
        assert opened.count() == before
        called(own, "populate", allow_populate=True, documents=documents, sync=True, dry_run=True, yes=True)
        assert opened.count() == before
        answer = called(own, "populate", allow_populate=True, documents=documents, sync=True, yes=True)
        assert answer["deleted"] == before - 1
        assert opened.count() == 1


def test_populate_makes_a_collection_that_is_not_there(fakes: Registry, tmp_path: Path) -> None:
    config = {"store": f"edge:{tmp_path / 'new'}", "collection": "notes", "slots": {"dense": {"adapter": "fake-dense"}}}
    own = Served.open([parse_config(config)], registry=fakes, create=True)
    assert "there is no collection 'notes'" in refused(own, "search", query="cat")
    assert called(own, "info")["collections"][0]["documents"] == 0
    documents = [{"id": "cat", "text": "the cat"}]
    assert called(own, "populate", documents=documents, collection="notes", allow_populate=True)["new"] == 1
    assert called(own, "search", query="cat")["hits"][0]["id"] == "cat"
    own.close()


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("search", {"query": "a", "collection": "plants"}, "expected: animals"),
        ("search", {"query": "a", "pipeline": "dens"}, "did you mean 'dense'?"),
        ("search", {"query": "a", "filter": {"mus": []}}, "filter is not a Qdrant filter"),
        ("search", {"query": ""}, "at least 1 character"),
        ("search", {"query": "a", "limit": 101}, "at most 100"),
        ("explain", {"query": "a", "ids": ["nobody"]}, "there is no such document"),
        ("info", {"collection": "plants"}, "expected: animals"),
    ],
)
def test_errors_are_told_to_the_model_with_what_to_do(
    served: Served, tool: str, arguments: dict[str, Any], message: str
) -> None:
    assert message in refused(served, tool, **arguments)


def test_a_fault_is_not_told(fakes: Registry, tmp_path: Path) -> None:
    with animals(tmp_path, fakes) as opened:
        encoder = opened.handle.slot("dense").encoder
        encoder.fail_on_call = encoder.count + 1
        text = refused(Served([opened], registry=fakes), "search", query="cat")
    assert "an unexpected error; the server's log has it" in text
    assert "call" not in text


def test_a_collection_with_tenants_is_asked_about_one(fakes: Registry, tmp_path: Path) -> None:
    slots = {"dense": {"adapter": "fake-dense"}}
    with animals(tmp_path, fakes, slots=slots, search={}, tenant={"field": "letter"}) as opened:
        own = Served([opened], registry=fakes)
        assert "a tenant is required" in refused(own, "search", query="the")
        assert [hit["id"] for hit in called(own, "search", query="the", tenant="c")["hits"]] == ["cat"]
        explained = called(own, "explain", query="the", tenant="d")["explanations"]
        assert [item["id"] for item in explained] == ["dog"]
        ape = {"id": "ape", "text": "the ape"}
        assert called(own, "populate", documents=[ape], tenant="a", allow_populate=True)["new"] == 1
        assert [hit["id"] for hit in called(own, "search", query="the", tenant="a")["hits"]] == ["ape"]


def test_a_collection_without_tenants_counts_all_for_a_server_of_one(served: Served) -> None:
    assert called(served, "info", bound="acme") == called(served, "info")


def test_an_agent_of_one_tenant_neither_sees_nor_changes_what_another_has(fakes: Registry, tmp_path: Path) -> None:
    slots, tenants = {"dense": {"adapter": "fake-dense"}}, ("acme", "globex")
    with animals(tmp_path, fakes, slots=slots, search={}, tenant={"field": "letter"}) as opened:
        own = Served([opened], registry=fakes)
        for name in tenants:
            given = [{"id": n, "text": f"{n} {name}"} for n in "12"]
            assert called(own, "populate", documents=given, tenant=name, allow_populate=True)["new"] == 2
        changed = {"id": "1", "text": "changed"}
        assert called(own, "populate", documents=[changed], tenant="acme", allow_populate=True)["changed"] == 1
        theirs = {**changed, "metadata": {"letter": "globex"}}
        (aside,) = called(own, "populate", documents=[theirs], tenant="acme", allow_populate=True)["examples"]
        assert "belongs to another tenant" in aside["reason"]
        (nobodys,) = called(own, "populate", documents=[changed], allow_populate=True)["examples"]
        assert "names no tenant" in nobodys["reason"]
        found = [called(own, "search", query="1", tenant=name)["hits"] for name in tenants]
        assert [{hit["text"] for hit in hits} for hits in found] == [{"changed", "2 acme"}, {"1 globex", "2 globex"}]
        assert "there is no such document" in refused(own, "explain", query="1", ids=["cat"], tenant="globex")
        assert "a tenant is required" in refused(own, "explain", query="1")


def test_a_server_of_one_tenant_serves_no_other_and_says_whose_documents_are(fakes: Registry, tmp_path: Path) -> None:
    slots = {"dense": {"adapter": "fake-dense"}}
    with animals(tmp_path, fakes, slots=slots, search={}, tenant={"field": "letter"}) as opened:
        own = Served([opened], registry=fakes)
        for name in ("acme", "globex"):
            opened.populate([{"id": "1", "text": f"the {name}"}], tenant=name)
        (hit,) = called(own, "search", query="the", bound="acme")["hits"]
        assert hit["text"] == "the acme"
        assert called(own, "search", query="the", bound="acme", tenant="acme")["hits"] == [hit]
        (told,) = called(own, "info")["collections"]
        assert (told["tenant_field"], told["documents"]) == ("letter", 6)
        (bound,) = called(own, "info", bound="acme")["collections"]
        assert bound == {**told, "documents": 1}
        other = {"query": "the", "tenant": "globex"}
        answer = with_client(own, lambda client: client.call_tool("search", other), tenant="acme")
        assert answer.is_error
        assert "this server serves one tenant" in str(answer.content)


@pytest.mark.parametrize(("tool", "wrong"), [("search", "filters"), ("search", "colection"), ("explain", "id")])
def test_an_argument_that_a_tool_does_not_have_is_refused_rather_than_left_out(
    tool: str, wrong: str, served: Served
) -> None:
    arguments: dict[str, Any] = {"query": "the cat", wrong: None}
    said = refused(served, tool, **arguments)
    assert f"{tool} takes no argument '{wrong}'" in said
    assert "collection, " in said


def test_a_value_that_an_argument_cannot_have_is_told_without_pydantic(served: Served) -> None:
    said = refused(served, "search", query="the cat", limit="many")
    assert "search: unusable argument 'limit'" in said
    assert "'many'" in said
    assert "a whole number" in said
    assert "pydantic" not in said
    assert "validation error" not in said
    assert "unusable argument 'query'" in refused(served, "search")


def test_the_schemas_say_that_nothing_else_is_taken(served: Served) -> None:
    listed = with_client(served, lambda client: client.list_tools())
    assert all(tool.input_schema["additionalProperties"] is False for tool in listed.tools)


def test_several_collections_are_told_apart_by_their_names(fakes: Registry, tmp_path: Path) -> None:
    for name in ("animals", "beasts"):
        animals(tmp_path, fakes, name=name, slots={"dense": {"adapter": "fake-dense"}}, search={}).close()
    both = Served.stored(f"edge:{tmp_path / 'qdrant'}", ["animals", "beasts"], registry=fakes)
    both.collection("beasts").populate([{"id": "yak", "text": "the yak"}])
    assert {one["name"]: one["documents"] for one in called(both, "info")["collections"]} == {"animals": 4, "beasts": 5}
    assert called(both, "search", query="yak", collection="beasts", limit=1)["hits"][0]["id"] == "yak"
    assert "yak" not in [hit["id"] for hit in called(both, "search", query="yak", collection="animals")["hits"]]
    assert "the request names no collection" in refused(both, "search", query="yak")
    assert "did you mean 'beasts'?" in refused(both, "search", query="yak", collection="beats")
    both.close()


def test_examples_pins_and_exclusions_are_arguments(served: Served, collection: Collection) -> None:
    options: dict[str, Any] = {"like": ["hen"], "unlike": ["owl"], "pin": ["cat"], "exclude": ["owl"]}
    answer = called(served, "search", query="at night", **options)
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in collection.search("at night", **options)]
    assert answer["hits"][0]["id"] == "cat"
    explained = called(served, "explain", query="at night", limit=1, **options)
    assert explained["explanations"][0]["notes"][-1] == "pinned"


def test_hits_and_explanations_have_the_passages_that_answer(fakes: Registry) -> None:
    config = parse_config({"store": "memory:", "collection": "manuals", "slots": long_documents.SLOTS})
    with Collection.open(config, registry=fakes) as collection:
        collection.populate(long_documents.manuals())
        served = Served([collection], registry=fakes)
        query, sentence = long_documents.QUERY, long_documents.SENTENCES["sox"]
        (hit,) = called(served, "search", query=query, limit=1, passages=2, text_length=20)["hits"]
        assert (hit["id"], len(hit["text"]), len(hit["passages"])) == ("sox", 21, 2)
        assert sentence in hit["passages"][0]["text"]
        assert hit["highlight"] is None
        (hit,) = called(served, "search", query=query, limit=1, highlight=True)["hits"]
        assert hit["highlight"]["sentence"]["text"] == sentence
        assert [hit["text"][start:end] for start, end in hit["highlight"]["words"]] == ["convert", "audio", "files"]
        (explained,) = called(served, "explain", query=query, limit=1)["explanations"]
        assert sentence in explained["slots"]["dense"]["passage"]["text"]
        assert "passages" in refused(served, "search", query=query, passages=1001)


def test_the_server_needs_no_package_of_the_http_service() -> None:
    blocked = "import sys; sys.modules['prometheus_client'] = None; import diptych_serve.agents"
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
