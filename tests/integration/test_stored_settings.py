"""Settings that somebody else wrote into a collection send nothing, read nothing and run nothing without consent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from diptych import Collection
from diptych.cli import main
from diptych.errors import NotTrusted
from diptych.metadata.store import known_metadata, metadata_payload, update_metadata
from diptych.service.application import application
from diptych.service.served import Served
from diptych.stores import open_store
from diptych.types import Document
from json_server import Reply, Request, json_server, vector_of
from serving import served

KEY = "DIPTYCH_TEST_SENTINEL"
SECRET = "b2f0c9-sentinel"
OWN: dict[str, Any] = {"collection": "c", "slots": {"lexical": {"adapter": "bm25"}}}

ADDRESSES: list[tuple[str, dict[str, Any]]] = [
    ("openai", {"base_url": "URL/v1", "model": "m"}),
    ("openai", {"base_url": "URL/v1", "model": "m", "api_key_env": KEY}),
    ("openai", {"base_url": "URL/v1", "model": "m", "api_key_env": KEY, "api_key_header": "X-Key"}),
    ("openai", {"base_url": f"URL/${{{KEY}}}", "model": "m"}),
    ("openai", {"base_url": "URL/v1", "model": f"${{{KEY}}}"}),
    ("openai", {"base_url": "URL/v1", "model": "m", "query_fields": {"user": f"${{{KEY}:-none}}"}}),
    ("cohere", {"base_url": "URL/v2", "model": "m", "api_key_env": KEY}),
    ("tei", {"base_url": "URL", "api_key_env": KEY}),
    ("tei", {"base_url": "URL", "document_prompt": f"${{{KEY}}}"}),
    ("openai", {"model": "m", "api_key_env": KEY}),  # to the vendor, whom nobody here named
    ("cohere", {"model": "m"}),
]
CODE: list[tuple[str, dict[str, Any]]] = [
    ("sentence-transformers", {"model": "FOLDER", "trust_remote_code": True}),
    ("sentence-transformers", {"model": "FOLDER", "allow_pickle_weights": True}),
    ("sentence-transformers-multivector", {"model": "FOLDER", "trust_remote_code": True}),
    ("sentence-transformers", {"model": f"${{{KEY}}}"}),
]
PLACES = ("slot", "query", "rerank")
RERANKERS: list[tuple[str, dict[str, Any]]] = [
    ("rerank-api", {"model": "m", "base_url": "URL/v2", "api_key_env": KEY}),
    ("tei-reranker", {"base_url": "URL", "api_key_env": KEY}),
    ("cross-encoder", {"model": "FOLDER", "trust_remote_code": True}),
]


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    monkeypatch.setenv(KEY, SECRET)
    return []


@pytest.fixture
def address(requests: list[Request]) -> Iterator[str]:
    def answer(request: Request) -> Reply:
        requests.append(request)
        texts = (request.body or {}).get("input") or []
        data = [{"index": n, "embedding": vector_of(text)} for n, text in enumerate(texts)]
        return Reply({"data": data, "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}})

    with json_server(answer) as url:
        yield url


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder whose code leaves a mark."""
    path = tmp_path / "model"
    path.mkdir()
    mark = f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
    (path / "evil.py").write_text(mark)
    (path / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "evil.Evil"}]))
    auto = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}
    (path / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": auto}))
    return path


def spoiled(store: str, place: str, adapter: str, options: dict[str, Any]) -> None:
    """A collection whose stored settings somebody with access to the store has rewritten."""
    with Collection.open({**OWN, "store": store}) as collection:
        collection.populate([Document("d1", "converts sound"), Document("d2", "paints pictures")])
    with closing(open_store(store)) as client:
        metadata = known_metadata(client, "c")
        slot = metadata.live.slots["lexical"]
        changed = slot.model_copy(update={"adapter": adapter, "options": options})
        live = metadata.live
        if place == "slot":
            live = live.model_copy(update={"slots": {"lexical": changed}})
        elif place == "query":
            asking = {"lexical": {"generation": changed.model_dump(), "why": "a student"}}
            live = type(live).model_validate({**live.model_dump(), "asking": asking})
        payload = metadata_payload(metadata.model_copy(update={"live": live}))
        if place == "rerank":
            stage = {"adapter": adapter, "candidates": 5, **options}
            payload["diptych_search"] = {"retrieve": {"lexical": 10}, "rerank": [stage]}
        update_metadata(client, "c", payload)


def cases() -> Iterator[Any]:
    for place in PLACES:
        for adapter, options in RERANKERS if place == "rerank" else [*ADDRESSES, *CODE]:
            yield pytest.param(place, adapter, options, id=f"{place}-{adapter}-{'-'.join(options)}")


@pytest.mark.parametrize(("place", "adapter", "options"), list(cases()))
def test_no_door_obeys_what_a_collection_asks_for(
    tmp_path: Path,
    address: str,
    requests: list[Request],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    place: str,
    adapter: str,
    options: dict[str, Any],
) -> None:
    text = json.dumps(options).replace("URL", address).replace("FOLDER", str(folder))
    store = f"edge:{tmp_path / 'store'}"
    spoiled(store, place, adapter, json.loads(text))

    with Collection.open(store, "c") as collection:
        for ask in (collection.search, collection.explain):
            with pytest.raises(NotTrusted) as refused:
                ask("sound")
        if place == "slot":
            with pytest.raises(NotTrusted):
                collection.populate([Document("d3", "new")])
    assert SECRET not in str(refused.value)
    assert "--trust" in str(refused.value)

    with pytest.raises(SystemExit) as ended:
        main(["search", "sound", "--store", store, "--collection", "c"])
    assert ended.value.code == 1
    with Collection.open(store, "c") as collection, served(application(Served([collection]))) as url:
        assert httpx.post(f"{url}/search", json={"query": "sound"}).status_code >= 400

    assert requests == []
    assert not (tmp_path / "ran").exists()
    assert SECRET not in "".join(capsys.readouterr())


def test_the_error_names_the_key_and_the_address(tmp_path: Path, address: str, requests: list[Request]) -> None:
    store = f"edge:{tmp_path / 'store'}"
    spoiled(store, "slot", "openai", {"base_url": f"{address}/v1", "model": "m", "api_key_env": KEY})
    with Collection.open(store, "c") as collection, pytest.raises(NotTrusted) as refused:
        collection.search("sound")
    assert f"it would send texts and {KEY} to {address.removeprefix('http://')}" in str(refused.value)


REMOTE = {"dense": {"adapter": "openai", "model": "m", "api_key_env": KEY}}


def opened(store: str, trust: bool = False) -> None:
    with Collection.open(store, "c", trust=trust) as collection:
        collection.search("sound")


def test_consent_is_remembered_for_exactly_these_settings(
    tmp_path: Path, address: str, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    store = f"edge:{tmp_path / 'store'}"
    slots = {"dense": {**REMOTE["dense"], "base_url": f"{address}/v1"}}
    with Collection.open({"store": store, "collection": "c", "slots": slots}) as collection:
        collection.populate([Document("d1", "converts sound")])
    program = f"from diptych import Collection; Collection.open({store!r}, 'c').search('sound')"
    own = subprocess.run([sys.executable, "-c", program], env=os.environ, capture_output=True, text=True, check=False)
    assert own.returncode == 0, own.stderr  # whose config said it may open by name

    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "stranger")}
    run: Callable[..., Any] = lambda text: subprocess.run(  # noqa: E731
        [sys.executable, "-c", text], env=env, capture_output=True, text=True, check=False
    )
    before = len(requests)
    assert "NotTrusted" in run(program).stderr
    assert len(requests) == before
    assert run(program.replace("'c')", "'c', trust=True)")).returncode == 0
    assert run(program).returncode == 0
    assert (tmp_path / "stranger" / "diptych" / "trusted.jsonl").stat().st_mode & 0o777 == 0o600

    with closing(open_store(store)) as client:
        metadata = known_metadata(client, "c")
        slot = metadata.live.slots["dense"]
        other = slot.model_copy(update={"options": {**slot.options, "api_key_header": "X-Other"}})
        live = metadata.live.model_copy(update={"slots": {"dense": other}})
        update_metadata(client, "c", metadata_payload(metadata.model_copy(update={"live": live})))
    assert "NotTrusted" in run(program).stderr


def test_settings_without_demands_open_as_before(tmp_path: Path) -> None:
    store = f"edge:{tmp_path / 'store'}"
    spoiled(store, "slot", "bm25", {"language": "english"})
    opened(store)
