"""A swap where vectors cannot be added to a collection: a copy that has them, and an alias that is moved to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase
from qdrant_client.http.exceptions import UnexpectedResponse

from diptych import Registry
from diptych.config.models import Config
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.snapshot import View
from diptych.populate import populate
from diptych.search import search
from diptych.stores.server_errors import too_old
from diptych.swap import ApplyOptions, apply, finish, rollback
from diptych.swap.vectors import CannotAddVectors
from diptych.testing import fakes_plugin
from diptych_edge import EdgeClient

NOT_FOUND = UnexpectedResponse(404, "Not Found", b"", httpx.Headers())
DOCUMENTS = [{"id": str(i), "text": f"word{i % 17} word{i % 23} number{i}", "section": i % 3} for i in range(120)]


class Old:
    """Answers as a server before 1.18 does: there are no such calls."""

    def create_vector_name(self, *args: Any, **kwargs: Any) -> models.UpdateResult:
        raise NOT_FOUND

    delete_vector_name = create_vector_name


class OldEdge(Old, EdgeClient):
    """An embedded store without them."""


class OldLocal(Old, QdrantClient):
    """Local mode without them."""


class Watching:
    """A progress that does something once, when a stage has come to an end."""

    def __init__(self, stage: str, act: Callable[[], object]) -> None:
        self.stage, self.act, self.done = stage, act, False

    def begin(self, stage: str, total: int | None) -> None:
        """Nothing."""

    def advance(self, stage: str, n: int) -> None:
        if stage == self.stage and n and not self.done:
            self.done = True
            self.act()


@pytest.fixture(params=["edge", "memory"])
def client(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    opened: QdrantBase = OldEdge(tmp_path / "store") if request.param == "edge" else OldLocal(":memory:")
    yield opened
    opened.close()


def config(dimension: int = 16, **changes: Any) -> Config:
    slots: Mapping[str, Any] = {
        "dense": {"adapter": "fake-dense", "dimension": dimension},
        "lexical": {"adapter": "fake-calibrated", "uses_idf": True},
    }
    raw = {"collection": "c", "slots": slots, "populate": {"chunk": 16, "retries": 0}, **changes}
    return Config.model_validate(
        {**raw, "search": {"retrieve": {"dense": 20}, "limit": 5}, "cache": {"enabled": False}}
    )


def opened(client: QdrantBase, wanted: Config | None = None) -> CollectionHandle:
    return CollectionHandle(client, "c", wanted, Registry(fakes_plugin, installed=False))


def alias(client: QdrantBase, to: str, name: str = "c") -> None:
    made = models.CreateAlias(collection_name=to, alias_name=name)
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=made)])


def served(client: QdrantBase) -> str:
    return next(known.collection_name for known in client.get_aliases().aliases if known.alias_name == "c")


@pytest.fixture
def aliased(client: QdrantBase) -> QdrantBase:
    """A collection of 120 documents, `c.1`, served as `c`."""
    registry = Registry(fakes_plugin, installed=False)
    populate(CollectionHandle(client, "c.1", config(), registry), DOCUMENTS)
    alias(client, "c.1")
    return client


def answers(handle: CollectionHandle | View) -> Any:
    queries = [f"word{i}" for i in range(10)]
    return [[(hit.id, pytest.approx(hit.score, abs=1e-5)) for hit in found] for found in search(handle, queries)]


UNGATED = ApplyOptions(gate=False)


def test_the_alias_moves_to_a_copy_where_the_swap_goes_on_as_ever(aliased: QdrantBase) -> None:
    handle = opened(aliased)
    before = answers(handle)
    report = apply(handle, config(32), UNGATED)
    assert (report.outcome, report.encoded, report.missing) == ("cut over", {"dense.2": 120}, 0)
    assert "'c' serves 'c.2' now, a copy of 'c.1', which is kept" in report.warnings[0]
    assert served(aliased) == "c.2"
    assert handle.read().live.slots["dense"].vector == "dense.2"
    rollback(handle)
    assert answers(handle) == before
    rollback(handle)
    done = finish(handle)
    assert done.dropped == ()
    assert "cannot drop a vector: dense.1 stays until the next swap makes a collection without it" in done.warnings[0]
    untouched = CollectionHandle(aliased, "c.1", None, Registry(fakes_plugin, installed=False))
    assert answers(untouched) == before


@pytest.mark.slow
def test_a_process_that_has_not_followed_yet_finds_what_it_found_and_not_nothing(aliased: QdrantBase) -> None:
    serving, handle = opened(aliased), opened(aliased)
    before = answers(serving)
    apply(handle, config(32), UNGATED)
    finish(handle)
    assert answers(serving.view) == before
    populate(handle, [{"id": "late", "text": "word1 late"}])
    apply(handle, config(32, search={"limit": 6}), UNGATED)  # which clears up
    assert answers(serving.view) == before


def test_the_next_swap_moves_on_to_a_third_collection(aliased: QdrantBase) -> None:
    handle = opened(aliased)
    apply(handle, config(32), UNGATED)
    finish(handle)
    report = apply(handle, config(24), UNGATED)
    assert (report.outcome, served(aliased)) == ("cut over", "c.3")
    assert vectors_of(aliased) == {"dense.2", "dense.3"}
    assert handle.read().live.slots["dense"].vector == "dense.3"
    assert aliased.count("c").count == 120


@pytest.mark.slow
def test_a_first_stage_comes_with_the_second_collection_and_goes_with_the_third(aliased: QdrantBase) -> None:
    handle = opened(aliased)
    slots = dict(config().model_dump(exclude_none=True)["slots"])
    slots["dense"] = {**slots["dense"], "storage": {"first_stage": {"dimension": 8, "oversampling": 20}}}
    before = answers(handle)
    assert apply(handle, config(slots=slots), UNGATED).outcome == "cut over"
    assert vectors_of(aliased) == {"dense.1", "dense.2", "dense.2.first"}
    assert answers(handle) == before
    finish(handle)
    apply(handle, config(24), UNGATED)
    finish(handle)
    assert apply(handle, config(32), UNGATED).outcome == "cut over"
    assert vectors_of(aliased) == {"dense.3", "dense.4"}


def vectors_of(client: QdrantBase) -> set[str]:
    vectors = client.get_collection("c").config.params.vectors
    assert isinstance(vectors, dict)
    return set(vectors)


def test_a_cut_over_does_not_say_that_it_dropped_what_such_a_server_keeps(aliased: QdrantBase) -> None:
    handle = opened(aliased)
    apply(handle, config(32), UNGATED)
    assert apply(handle, config(24), UNGATED).dropped == ()
    assert "dense.1" in vectors_of(aliased)


def test_a_served_name_that_is_no_alias_is_refused_with_the_way_out(client: QdrantBase) -> None:
    populate(opened(client, config()), DOCUMENTS)
    handle = opened(client)
    before = answers(handle)
    with pytest.raises(
        CannotAddVectors,
        match=r"(?s)not served by an alias.*diptych copy CONFIG CONFIG.*--as c.1.*all programs that use c",
    ):
        apply(handle, config(32), UNGATED)
    assert handle.read().swap is None
    assert answers(handle) == before


def test_writes_until_the_alias_moves_are_brought_over(aliased: QdrantBase) -> None:
    handle = opened(aliased)

    def write() -> None:
        new: list[Any] = [{"id": "late", "text": "word1 late"}, {"id": "3", "text": "word5 changed"}, *DOCUMENTS[10:]]
        populate(CollectionHandle(aliased, "c.1", config(), handle.registry), new, sync=True, max_deleted=1)

    progress = Watching("comparing, pass 1", write)
    report = apply(handle, config(32), UNGATED, progress=progress)
    assert progress.done
    assert (report.outcome, report.missing) == ("cut over", 0)
    found = {document["_diptych"]["id"]: document["text"] for document in payloads(aliased)}
    assert found["late"] == "word1 late"
    assert found["3"] == "word5 changed"
    assert len(found) == 112


def test_writes_between_the_last_pass_and_the_move_are_brought_over_but_not_over_newer_ones(
    aliased: QdrantBase, monkeypatch: Any
) -> None:
    registry = Registry(fakes_plugin, installed=False)
    move = type(aliased).update_collection_aliases

    def busy_move(self: Any, *args: Any, **kwargs: Any) -> Any:
        late: list[Any] = [{"id": key, "text": f"word1 late {key}"} for key in ("late", "3", "4")]
        populate(CollectionHandle(aliased, "c.1", config(), registry), [*DOCUMENTS[6:], *late], sync=True)
        done = move(self, *args, **kwargs)
        populate(CollectionHandle(aliased, "c", config(), registry), [{"id": "4", "text": "newer"}])
        return done

    handle = opened(aliased)
    with monkeypatch.context() as patch:
        patch.setattr(type(aliased), "update_collection_aliases", busy_move)
        report = apply(handle, config(32), UNGATED)
    assert (report.outcome, report.missing, served(aliased)) == ("cut over", 0, "c.2")
    found = {document["_diptych"]["id"]: document["text"] for document in payloads(aliased)}
    assert found.keys() == {*(document["id"] for document in DOCUMENTS[6:]), "late", "3", "4"}
    assert (found["late"], found["3"], found["4"]) == ("word1 late late", "word1 late 3", "newer")


def payloads(client: QdrantBase) -> list[dict[str, Any]]:
    return [point.payload or {} for point in client.scroll("c", limit=1000)[0]]


@pytest.mark.parametrize("stage", ["copying", "comparing, pass 1", "fill"])
def test_an_apply_that_breaks_off_goes_on(aliased: QdrantBase, stage: str) -> None:
    class Killed(BaseException):
        """Ends the run like a kill: nothing catches it."""

    def die() -> None:
        raise Killed

    with pytest.raises(Killed):
        apply(opened(aliased), config(32), UNGATED, progress=Watching(stage, die))
    assert len(answers(opened(aliased))) == 10
    report = apply(opened(aliased), config(32), UNGATED)
    assert (report.outcome, report.missing, served(aliased)) == ("cut over", 0, "c.2")
    names = {found.name for found in aliased.get_collections().collections}
    assert names == {"c.1", "c.2"}


@pytest.mark.slow
def test_a_break_between_the_move_and_the_announcement_is_made_good(aliased: QdrantBase, monkeypatch: Any) -> None:
    class Killed(BaseException):
        """Ends the run like a kill."""

    move = type(aliased).update_collection_aliases

    def move_and_die(self: Any, *args: Any, **kwargs: Any) -> Any:
        move(self, *args, **kwargs)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(type(aliased), "update_collection_aliases", move_and_die)
        with pytest.raises(Killed):
            apply(opened(aliased), config(32), UNGATED)
    assert served(aliased) == "c.2"
    report = apply(opened(aliased), config(32), UNGATED)
    assert (report.outcome, served(aliased)) == ("cut over", "c.2")


def test_an_old_server_is_told_by_its_not_knowing_the_call() -> None:
    missing = UnexpectedResponse(
        404, "Not Found", b'{"status":{"error":"Collection `c` doesn\'t exist!"}}', httpx.Headers()
    )
    assert too_old(NOT_FOUND)
    assert too_old(NotImplementedError())
    assert too_old(type("Rpc", (Exception,), {"code": lambda self: type("Code", (), {"name": "UNIMPLEMENTED"})})())
    assert not too_old(missing)
    assert not too_old(UnexpectedResponse(500, "", b"", httpx.Headers()))
    assert not too_old(ValueError("no"))
