"""Store URLs: who answers, and what is said when nobody does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient

import diptych
from diptych.collection.collection import Collection
from diptych.errors import (
    CollectionNotFound,
    ConfigError,
    InsecureKeyWarning,
    StoreError,
    StoreUnavailable,
    StoreURLError,
)
from diptych.hookspecs import hookimpl
from diptych.registry import Registry
from diptych.stores import is_store_url, open_store
from diptych.testing import fakes_plugin
from diptych_edge import SharedEdgeClient


@pytest.mark.parametrize("url", ["", "qdrant", "ftp://host", "edge:", "http://", "grpc:", "C:\\folder"])
def test_a_url_that_nobody_answers_for_names_those_that_work(url: str) -> None:
    with pytest.raises(StoreURLError, match=r"(?s)no store supports this URL.*edge:PATH, local:PATH, memory:"):
        open_store(url)


def test_a_password_in_a_url_is_never_shown() -> None:
    with pytest.raises(StoreURLError) as caught:
        open_store("ftp://user:hunter2@host/path")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://me:hunter2@host", "https://host/?api_key=hunter2", "grpc://host#hunter2"])
def test_a_url_with_room_for_a_secret_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(
        StoreURLError, match=r"(?s)a user, a password or a query.*api_key: \$\{QDRANT_API_KEY\}"
    ) as told:
        open_store(url)
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "grpc://127.0.0.1:9"])
def test_a_server_that_does_not_answer_is_named_with_a_way_out(url: str) -> None:
    with pytest.raises(StoreUnavailable, match=r"(?s)127\.0\.0\.1:9.*edge:"):
        open_store(url, timeout=1)


def test_an_unset_variable_in_a_url_is_named() -> None:
    with pytest.raises(ConfigError, match="DIPTYCH_NO_SUCH_HOST is not set"):
        open_store("http://${DIPTYCH_NO_SUCH_HOST}:6333")


def test_memory_and_edge_open_what_they_say(tmp_path: Path) -> None:
    assert isinstance(open_store("memory:"), QdrantClient)
    with open_store("edge:store", base=tmp_path) as client:  # type: ignore[attr-defined]
        assert isinstance(client, SharedEdgeClient)
        assert (tmp_path / "store").is_dir()


def test_an_embedded_store_may_be_opened_again(tmp_path: Path) -> None:
    first, second = open_store(f"edge:{tmp_path}/store"), open_store(f"edge:{tmp_path}/store")
    first.close()
    assert second.get_collections().collections == []
    second.close()


def test_a_plugin_may_answer_for_a_url_of_its_own() -> None:
    class Plugin:
        @hookimpl
        def diptych_open_store(self, url: str) -> Any:
            return QdrantClient(":memory:") if url.startswith("mem0:") else None

    registry = Registry(Plugin(), installed=False)
    assert isinstance(open_store("mem0:x", registry=registry), QdrantClient)
    with pytest.raises(StoreURLError, match="no store supports this URL"):
        open_store("yours:x", registry=registry)
    with pytest.raises(CollectionNotFound, match="there is no collection 'packages'"):
        Collection.open("mem0:foo", "packages", registry=registry)


def test_an_existing_file_is_a_path_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "edge:x").write_text("")
    assert not is_store_url("edge:x")


def test_an_embedded_store_for_reading_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(CollectionNotFound, match=r"there is no embedded store\n  where: edge:.*\n.*\n  do: fill it"):
        open_store("edge:store", base=tmp_path, create=False)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CollectionNotFound, match=r"got: an empty folder\n.*fill it"):
        open_store("edge:.", base=tmp_path, create=False)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "other").mkdir()
    with pytest.raises(StoreError, match="there is no embedded store here"):
        open_store("edge:.", base=tmp_path, create=False)
    assert list(tmp_path.iterdir()) == [tmp_path / "other"]
    open_store("edge:store", base=tmp_path).close()
    open_store("edge:store", base=tmp_path, create=False).close()


def test_a_path_is_no_store_url(tmp_path: Path) -> None:
    assert is_store_url("edge:./x")
    assert is_store_url("memory:")
    assert is_store_url("mem0:foo")
    assert is_store_url("x-my.store+tls://host")
    assert not is_store_url("0mem:foo")
    assert not is_store_url("./a:b")
    assert not is_store_url("diptych.yaml")
    assert not is_store_url("C:\\diptych.yaml")
    assert not is_store_url(str(tmp_path / "diptych.yaml"))


def test_a_key_goes_with_a_servers_url_and_is_never_shown() -> None:
    slots = {"dense": {"adapter": "fake-dense"}}
    config = {"store": "memory:", "collection": "things", "slots": slots}
    with pytest.raises(ConfigError, match=r"(?s)api_key goes with a store's URL.*a config, which.*QDRANT_API") as told:
        Collection.open(config, api_key="hunter2", registry=Registry(fakes_plugin, installed=False))
    assert "hunter2" not in str(told.value)
    with pytest.raises(ConfigError, match=r"a client, which has its own"):
        Collection.open(QdrantClient(":memory:"), "things", api_key="hunter2")


@pytest.mark.parametrize(
    ("urls", "secure"),
    [
        (["http://0.0.0.0:9"], "https"),
        (["grpc://0.0.0.0:9"], "grpcs"),
        (["http://0.0.0.0:9", "http://0.0.0.0:8"], "https"),
    ],
)
def test_a_key_that_would_go_unencrypted_is_warned_of_once_with_the_servers(urls: list[str], secure: str) -> None:
    with pytest.warns(InsecureKeyWarning) as told, pytest.raises(StoreUnavailable) as caught:
        open_store(urls, api_key="hunter2", timeout=1)
    assert [(warning.category, str(warning.message)) for warning in told] == [
        (
            InsecureKeyWarning,
            f"the API key goes to {', '.join(urls)} unencrypted, so others on the network can read it: "
            f"use {secure}://, or an encrypted tunnel that ends on this machine",
        )
    ]
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://localhost:9", "grpc://127.0.0.1:9", "https://0.0.0.0:9"])
def test_no_warning_of_a_key_that_stays_on_this_machine_or_is_encrypted(url: str) -> None:
    with pytest.raises(StoreUnavailable, match="does not answer"):
        open_store(url, api_key="hunter2", timeout=1)


def test_an_asyncio_client_warns_of_an_unencrypted_key_in_the_same_words() -> None:
    with pytest.warns(InsecureKeyWarning) as told:
        diptych.async_client("grpc://0.0.0.0:9", api_key="hunter2", registry=Registry(fakes_plugin, installed=False))
    assert [warning.category for warning in told] == [InsecureKeyWarning]
