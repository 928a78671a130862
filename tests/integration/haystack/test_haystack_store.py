"""`DiptychDocumentStore`: what goes in comes out, nothing is lost silently, and others read the same documents."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from haystack import Document
from haystack.dataclasses import ByteStream
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError
from haystack.utils import Secret
from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

import diptych
from diptych import Collection, Registry, hookimpl
from diptych.config import parse_config
from diptych.encoders import Encoders
from diptych.errors import ConfigError, DocumentError, StoreUnavailable
from diptych.reports import PopulateReport
from diptych.testing import fakes_plugin
from diptych_adapters.haystack import DiptychDocumentEmbedder, DiptychDocumentStore

DOCUMENTS = [
    Document(
        id="lame", content="convert audio files", meta={"title": "lame", "section": "sound", "at": {"n": [1, 2.5]}}
    ),
    Document(content="edit pictures", meta={"section": "graphics", "free": True}),
]
SLOTS = {"dense": {"adapter": "fake-dense"}, "lexical": {"adapter": "fake-calibrated"}}


class Listener:
    """A plugin that keeps what populate reports."""

    def __init__(self) -> None:
        self.reports: list[PopulateReport] = []

    @hookimpl
    def diptych_after_populate(self, report: PopulateReport) -> None:
        self.reports.append(report)


def by_id(documents: list[Document]) -> list[Document]:
    return sorted(documents, key=lambda document: document.id)


def in_memory(*plugins: object) -> Collection:
    config = {"store": "memory:", "collection": "things", "slots": SLOTS, "cache": {"enabled": False}}
    return Collection.open(config, registry=Registry(fakes_plugin, *plugins))


def test_documents_come_back_as_they_were(things: Collection) -> None:
    store = DiptychDocumentStore(things)
    assert store.write_documents(DOCUMENTS) == 2
    assert by_id(store.filter_documents()) == by_id(DOCUMENTS)


def test_the_same_documents_again_change_nothing_and_encode_nothing() -> None:
    listener = Listener()
    with in_memory(listener) as things:
        store = DiptychDocumentStore(things)
        store.write_documents(DOCUMENTS)
        read = store.filter_documents()
        assert store.write_documents(DOCUMENTS) == store.write_documents(read, DuplicatePolicy.OVERWRITE) == 2
        counts = [(report.new, report.changed, report.unchanged) for report in listener.reports]
        assert counts == [(2, 0, 0), (0, 0, 2), (0, 0, 2)]
        assert [sum(report.encoded.values()) for report in listener.reports] == [4, 0, 0]


def test_policies_say_what_happens_to_ids_that_are_taken(things: Collection) -> None:
    store = DiptychDocumentStore(things)
    store.write_documents([Document(id="a", content="first")])
    again = [Document(id="a", content="second"), Document(id="b", content="third"), Document(id="b", content="fourth")]
    with pytest.raises(
        DuplicateDocumentError, match=r"(?s)a document with this id exists.*'a'.*OVERWRITE replaces"
    ) as told:
        store.write_documents(again, DuplicatePolicy.FAIL)
    assert isinstance(told.value, DocumentError)
    assert store.count_documents() == 1
    assert store.write_documents(again, DuplicatePolicy.SKIP) == 1
    assert [document.content for document in by_id(store.filter_documents())] == ["first", "third"]
    assert store.write_documents(again, DuplicatePolicy.OVERWRITE) == 3
    assert [document.content for document in by_id(store.filter_documents())] == ["second", "fourth"]
    assert store.write_documents([]) == 0


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (Document(id="x"), r"(?s)has no text.*document 'x'.*content: None.*convert or leave out"),
        (Document(id="x", content=" "), r"(?s)has no text.*content: ' '"),
        (Document(id="x", content="a", blob=ByteStream(b"123")), r"(?s)holds binary data.*a blob of 3 bytes.*in meta"),
    ],
)
def test_what_a_collection_would_lose_is_refused_and_nothing_written(
    things: Collection, document: Document, message: str
) -> None:
    store = DiptychDocumentStore(things)
    with pytest.raises(DocumentError, match=message):
        store.write_documents([DOCUMENTS[0], document])
    assert store.count_documents() == 0


def test_metadata_that_cannot_be_kept_is_named_and_the_others_are_written(
    things: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where the report of what was rejected goes
    wrong = [Document(id="x", content="a", meta={"text": "b"}), Document(id="y", content="a", meta={"title": 7})]
    with pytest.raises(
        DocumentError, match=r"(?s)2 of 4 documents cannot be indexed.*x: .*key 'text'.*y: .*key 'title'"
    ) as told:
        DiptychDocumentStore(things).write_documents([*DOCUMENTS, *wrong])
    assert "key 'title'" in told.value.got
    assert things.count() == 2


def test_embeddings_are_reported_to_be_left_out(things: Collection, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        DiptychDocumentStore(things).write_documents([Document(content="a", embedding=[0.5])])
    assert "the embeddings of 1 documents are not stored: the collection encodes them" in caplog.text


def test_what_haystack_wrote_reads_well_in_diptych_and_the_other_way_round(things: Collection) -> None:
    store = DiptychDocumentStore(things)
    store.write_documents([DOCUMENTS[0]])
    lame = diptych.Document("lame", "convert audio files", "lame", {"section": "sound", "at": {"n": [1, 2.5]}})
    assert things.get(["lame"]) == [lame]
    assert things.search("lame audio")[0].document == lame
    things.populate([diptych.Document("gimp", "retouch photographs", "gimp", {"section": "graphics"})])
    gimp = store.filter_documents({"field": "meta.title", "operator": "==", "value": "gimp"})
    assert gimp == [Document(id="gimp", content="retouch photographs", meta={"section": "graphics", "title": "gimp"})]
    assert things.populate([lame]).unchanged == 1


def test_an_adopted_collection_of_haystack_is_read_and_written_as_haystack_does() -> None:
    registry = Registry(fakes_plugin)
    encoders = Encoders.open(registry=registry)
    encoder = encoders["fake-dense"]
    theirs = QdrantDocumentStore(":memory:", embedding_dim=encoder.dimension, index="things", progress_bar=False)
    embedder = DiptychDocumentEmbedder("fake-dense", source=encoders)
    embedded = embedder.run([replace(DOCUMENTS[0], meta={"section": "sound"}), DOCUMENTS[1]])
    theirs.write_documents(embedded["documents"])
    config = {"store": "memory:", "collection": "things", "slots": {"dense": SLOTS["dense"]}}
    with Collection.adopt(parse_config(config), store=theirs._client, registry=registry) as things:
        store = DiptychDocumentStore(things)
        assert by_id(store.filter_documents()) == by_id([replace(own, embedding=None) for own in embedded["documents"]])
        store.write_documents([Document(id="new", content="play music", meta={"section": "sound", "title": "mpd"})])
        sound = {"field": "meta.section", "operator": "==", "value": "sound"}
        assert {document.id for document in store.filter_documents(sound)} == {"lame", "new"}
        assert store.filter_documents({"field": "id", "operator": "==", "value": "new"})[0].meta["title"] == "mpd"
        (new,) = theirs.get_documents_by_id(["new"])
        assert (new.content, new.meta) == ("play music", {"section": "sound", "title": "mpd"})
        assert {document.id for document in theirs.filter_documents(sound)} == {"lame", "new"}


def test_first_writes_at_the_same_time_make_one_collection(things: Collection) -> None:
    store, other = DiptychDocumentStore(things), DiptychDocumentStore(things)

    async def write() -> list[int]:
        pieces = [[Document(id=f"d{n}", content=f"text {n}")] for n in range(8)]
        return list(await asyncio.gather(*(own.write_documents_async(p) for p in pieces for own in (store, other))))

    assert asyncio.run(write()) == [1] * 16
    assert store.count_documents() == 8


def test_meta_is_updated_by_filter_and_documents_deleted(things: Collection) -> None:
    store = DiptychDocumentStore(things)
    store.write_documents(DOCUMENTS)
    sound = {"field": "meta.section", "operator": "==", "value": "sound"}
    assert store.update_by_filter(sound, {"section": "audio", "title": "LAME"}) == 1
    assert store.count_documents_by_filter(sound) == 0
    assert things.get(["lame"])[0].title == "LAME"
    with pytest.raises(FilterError, match=r"(?s)there is no filter.*delete_all_documents"):
        store.delete_by_filter({})
    assert store.delete_by_filter({"field": "id", "operator": "!=", "value": "lame"}) == 1
    assert [document.id for document in store.filter_documents()] == ["lame"]


def test_stores_that_name_the_same_collection_share_it_until_the_last_is_closed(tmp_path: Path) -> None:
    config = {"store": f"edge:{tmp_path}/qdrant", "collection": "things", "slots": {"lexical": {"adapter": "bm25"}}}
    one, other = DiptychDocumentStore({**config}), DiptychDocumentStore({**config})
    one.write_documents(DOCUMENTS)
    assert other.count_documents() == 2
    assert one.collection is other.collection
    one.close()
    assert other.count_documents() == 2
    other.close()
    with Collection.open(config) as things:
        assert things.count() == 2
    by_name = DiptychDocumentStore(f"edge:{tmp_path}/qdrant", "things")
    assert by_name.count_documents() == 2
    del by_name  # a store that nobody holds lets go, too
    Collection.open(config).close()


def test_a_key_beside_a_config_is_refused_without_telling_it(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"store": "memory:", "collection": "things", "slots": SLOTS}
    monkeypatch.setenv("MY_QDRANT_KEY", "hunter2")
    store = DiptychDocumentStore(config, api_key=Secret.from_env_var("MY_QDRANT_KEY"))
    assert "hunter2" not in str(store.to_dict())
    with pytest.raises(ConfigError) as told:
        store.count_documents()
    assert "hunter2" not in str(told.value)


def test_a_key_goes_to_the_server_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("api-key"))
            self.send_error(403)

        def log_message(self, *args: object) -> None:
            """Nothing."""

    monkeypatch.setenv("MY_QDRANT_KEY", "hunter2")
    with HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        store = DiptychDocumentStore(url, "things", api_key=Secret.from_env_var("MY_QDRANT_KEY"))
        with pytest.raises(StoreUnavailable) as told:
            store.count_documents()
        server.shutdown()
    assert set(seen) == {"hunter2"}
    assert "hunter2" not in str(told.value)
    assert "hunter2" not in repr(store)
