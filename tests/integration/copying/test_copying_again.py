"""A copy that is run again: after a failure, after changes, onto something else; and while its source is written to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase

from diptych import Collection, Registry
from diptych.config.models import Config
from diptych.copying import copy_collection
from diptych.errors import CollectionError, CopyError
from diptych.metadata.models import State, Swap
from diptych.metadata.store import metadata_payload
from diptych.populate import Progress

OpenClient = Callable[..., QdrantBase]
DISTANCE = models.Distance.DOT


class Failing(QdrantClient):
    """A store that fails at a write for good."""

    writes_left = 3

    def upsert(self, collection_name: str, points: Any, *args: Any, **kwargs: Any) -> models.UpdateResult:
        if self.writes_left == 0:
            raise ValueError("the disk is full")
        self.writes_left -= 1
        return super().upsert(collection_name, points, *args, **kwargs)


class Acting(Progress):
    """Does something to a store at each call of a progress, as other programs would meanwhile."""

    def __init__(self, act: Callable[[str], object]) -> None:
        self.act, self.stages = act, list[str]()

    def begin(self, stage: str, total: int | None) -> None:
        self.stages.append(stage)

    def advance(self, stage: str, n: int) -> None:
        if n:
            self.act(stage)


def numbered(client: QdrantBase, ids: range, name: str = "c") -> None:
    points = [models.PointStruct(id=i, vector=[float(i), 1.0], payload={"n": i}) for i in ids]
    client.upsert(name, points)


@pytest.fixture
def source(open_client: OpenClient) -> QdrantBase:
    client = open_client("edge", "one")
    client.create_collection("c", vectors_config=models.VectorParams(size=2, distance=DISTANCE))
    numbered(client, range(100))
    return client


@pytest.fixture
def target(open_client: OpenClient) -> QdrantBase:
    return open_client("edge", "two")


def record(client: QdrantBase, name: str = "c") -> Any:
    return (client.get_collection(name).config.metadata or {}).get("diptych_copy")


def test_a_failed_copy_goes_on_where_it_was_and_cannot_be_opened_before(
    open_client: OpenClient, fill: Any, assert_same: Any, registry: Registry, config: Config
) -> None:
    source, target = open_client("edge"), Failing(":memory:")
    fill(source)
    with pytest.raises(CopyError, match=r"(?s)cannot write to the store.*the disk is full.*continues where it stopped"):
        copy_collection(source, "c", target, batch=20)
    assert (record(target)["stage"], record(target)["copied"], target.count("c").count) == ("points", 60, 60)
    for opened in (lambda: Collection.open(target, "c", registry=registry), lambda: fill(target)):
        with pytest.raises(
            CollectionError, match=r"(?s)is an unfinished copy.*60 points so far of edge:.*diptych copy"
        ):
            opened()
    target.writes_left = 2
    report = copy_collection(source, "c", target, batch=20)
    assert (report.resumed, report.copied, report.points) == (True, 40, 100)
    assert Collection.open(target, "c", registry=registry).count() == 100
    assert_same(source, "c", target, "c")
    target.close()


def test_an_unfinished_copy_cannot_be_the_source_of_another(source: QdrantBase, open_client: OpenClient) -> None:
    half = Failing(":memory:")
    with pytest.raises(CopyError, match="cannot write"):
        copy_collection(source, "c", half, batch=10)
    with pytest.raises(CollectionError, match="is an unfinished copy"):
        copy_collection(half, "c", open_client("memory"))


def test_a_second_copy_brings_over_what_differs_only(source: QdrantBase, target: QdrantBase, assert_same: Any) -> None:
    copy_collection(source, "c", target)
    numbered(source, range(200, 207))
    source.delete("c", [3, 4])
    source.set_payload("c", {"n": None}, [5])
    source.update_vectors("c", [models.PointVectors(id=6, vector=[0.0, 0.0])])
    source.update_collection("c", metadata={"owner": "me"})
    report = copy_collection(source, "c", target, batch=16)
    assert (report.copied, report.changed, report.deleted) == (0, 9, 2)
    assert_same(source, "c", target, "c")
    assert (target.get_collection("c").config.metadata or {})["owner"] == "me"
    source.update_collection("c", metadata={"owner": None})
    assert copy_collection(source, "c", target).written == 0
    assert "owner" not in (target.get_collection("c").config.metadata or {})


def test_a_copy_that_went_its_own_way_is_not_overwritten_unasked(
    source: QdrantBase, target: QdrantBase, assert_same: Any
) -> None:
    copy_collection(source, "c", target)
    numbered(target, range(300, 301))
    with pytest.raises(CopyError, match=r"(?s)changed since it was copied.*point 300: not in the source.*--overwrite"):
        copy_collection(source, "c", target)
    assert target.count("c").count == 101
    report = copy_collection(source, "c", target, overwrite=True)
    assert (report.changed, report.deleted) == (0, 1)
    assert_same(source, "c", target, "c")


def test_metadata_that_changed_in_the_copy_alone_is_left_alone(source: QdrantBase, target: QdrantBase) -> None:
    copy_collection(source, "c", target)
    target.update_collection("c", metadata={"mine": 1})
    assert copy_collection(source, "c", target).written == 0
    assert (target.get_collection("c").config.metadata or {})["mine"] == 1
    source.update_collection("c", metadata={"theirs": 1})
    with pytest.raises(CopyError, match="what it says about itself is not what was copied"):
        copy_collection(source, "c", target)


@pytest.mark.parametrize("metadata", [None, {"diptych_copy": {"store": "edge:/other", "collection": "c"}}])
def test_a_target_that_is_no_copy_of_this_source_is_refused_and_left(
    source: QdrantBase, target: QdrantBase, metadata: Any
) -> None:
    size = models.VectorParams(size=2, distance=DISTANCE)
    target.create_collection("c", vectors_config=size, metadata=metadata)
    numbered(target, range(7))
    message = (
        "is not a copy\n" if metadata is None else r"(?s)copy of another collection.*got: edge:/other, collection 'c'"
    )
    for overwrite in (False, True):
        with pytest.raises(CopyError, match=message):
            copy_collection(source, "c", target, overwrite=overwrite)
    assert target.count("c").count == 7


def test_other_vectors_than_when_the_copy_was_made_are_refused(source: QdrantBase, target: QdrantBase) -> None:
    copy_collection(source, "c", target)
    source.delete_collection("c")
    vectors = {"a": models.VectorParams(size=3, distance=DISTANCE)}
    source.create_collection("c", vectors_config=vectors, sparse_vectors_config={"s": models.SparseVectorParams()})
    with pytest.raises(
        CopyError, match=r"(?s)different vectors.*'': 2 Dot, 'a': none, 's': none\n.*'a': 3 Dot, 's': sparse"
    ):
        copy_collection(source, "c", target)


def test_a_payload_index_of_another_type_is_refused(source: QdrantBase, target: QdrantBase) -> None:
    copy_collection(source, "c", target)
    source.create_payload_index("c", "n", models.PayloadSchemaType.INTEGER)
    assert copy_collection(source, "c", target).indexes == ("n",)
    assert set(target.get_collection("c").payload_schema) == {"n"}
    target.delete_payload_index("c", "n")
    target.create_payload_index("c", "n", models.PayloadSchemaType.FLOAT)
    with pytest.raises(CopyError, match=r"(?s)indexed as another type.*got: float\n.*expected: integer"):
        copy_collection(source, "c", target)


def test_a_swap_under_way_in_the_source_is_refused_whenever_it_begins(
    open_client: OpenClient, fill: Any, target: QdrantBase
) -> None:
    source = open_client("edge", "one")
    metadata = fill(source).read()
    swap = Swap(building={}, target=State(slots=metadata.live.slots))

    def begin(_: str) -> None:
        source.update_collection("c", metadata=metadata_payload(metadata.model_copy(update={"swap": swap})))

    with pytest.raises(CopyError, match="swap of encoders is under way"):
        copy_collection(source, "c", target, progress=Acting(begin))
    assert record(target)["stage"] == "passes"
    with pytest.raises(CopyError, match=r"(?s)diptych apply, or diptych rollback"):
        copy_collection(source, "c", target, "other")
    assert not target.collection_exists("other")
    source.update_collection("c", metadata=metadata_payload(metadata))
    copy_collection(source, "c", target)


def test_writes_to_the_source_meanwhile_are_brought_over(
    source: QdrantBase, target: QdrantBase, assert_same: Any
) -> None:
    written = iter(range(1000, 1003))

    def write(stage: str) -> None:
        if stage.endswith("3"):
            return
        new = next(written, None)
        if new is not None:
            numbered(source, range(new, new + 1))
            source.set_payload("c", {"changed": new}, [1])
            source.delete("c", [new - 1000 + 10])

    progress = Acting(write)
    report = copy_collection(source, "c", target, batch=64, progress=progress)
    assert report.changed > 0
    assert progress.stages[:2] == ["copying", "comparing, pass 1"]
    assert source.count("c").count == 100
    assert_same(source, "c", target, "c")


def test_a_source_that_is_never_at_rest_is_told_and_the_copy_stays_unfinished(
    source: QdrantBase, target: QdrantBase
) -> None:
    busy = iter(range(1000, 2000))
    progress = Acting(lambda _: numbered(source, range(n := next(busy), n + 1)))
    with pytest.raises(CopyError, match=r"(?s)written to during each of 5 passes.*stop writing to it"):
        copy_collection(source, "c", target, batch=50, progress=progress)
    assert record(target)["stage"] == "passes"
    report = copy_collection(source, "c", target)
    assert report.copied == 0


def test_a_target_that_does_not_keep_what_it_gets_is_told_with_examples(source: QdrantBase) -> None:
    class Forgetful(QdrantClient):
        """Loses a payload key of one point."""

        def upsert(self, collection_name: str, points: Any, *args: Any, **kwargs: Any) -> models.UpdateResult:
            kept = [p.model_copy(update={"payload": {}}) if p.id == 42 else p for p in points]
            return super().upsert(collection_name, kept, *args, **kwargs)

    target = Forgetful(":memory:")
    with pytest.raises(
        CopyError, match=r"(?s)not return what was written.*1 points.*got: point 42: payload, 'n'"
    ) as caught:
        copy_collection(source, "c", target)
    assert [str(example) for example in caught.value.context["examples"]] == ["point 42: payload, 'n'"]  # type: ignore[attr-defined]
    assert record(target)["stage"] == "passes"
