"""Random writes leave the same content in EdgeClient as in qdrant-client's local mode (and on a server)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from qdrant_client import models as m

Write = Callable[[Any, str], object]
STEPS = 40


def kind(value: str) -> m.Filter:
    return m.Filter(must=[m.FieldCondition(key="kind", match=m.MatchValue(value=value))])


def selector(world: Any) -> Any:
    """Ids or a filter, bare or wrapped."""
    ids, chosen = world.rng.sample(world.alive, 4), kind(world.rng.choice("abcd"))
    return world.rng.choice([ids, chosen, m.FilterSelector(filter=chosen), m.PointIdsList(points=ids)])


def upsert(world: Any) -> Write:
    points = [world.point(identifier) for identifier in world.some_ids()]
    mode = world.rng.choice([None, *m.UpdateMode])
    return lambda client, name: client.upsert(name, points, update_mode=mode)


def upsert_batch(world: Any) -> Write:
    ids = world.some_ids()
    vectors = {"cos": [world.dense() for _ in ids], "sparse": [world.sparse() for _ in ids]}
    batch = m.Batch(ids=ids, vectors=vectors, payloads=[world.payload() for _ in ids])
    return lambda client, name: client.upsert(name, batch)


def upsert_some(world: Any) -> Write:
    points, chosen = [world.point(identifier) for identifier in world.some_ids()], kind("b")
    return lambda client, name: client.upsert(name, points, update_filter=chosen)


def update_vectors(world: Any) -> Write:
    ids = world.rng.sample(world.alive, 4)
    points = [m.PointVectors(id=i, vector={"dot": world.dense(), "multi": world.multi()}) for i in ids]
    return lambda client, name: client.update_vectors(name, points)


def delete_vectors(world: Any) -> Write:
    names, ids = world.rng.sample(["cos", "sparse", "multi"], 2), world.rng.sample(world.alive, 3)
    return lambda client, name: client.delete_vectors(name, names, ids)


def delete(world: Any) -> Write:
    chosen = world.some_ids(2)
    return lambda client, name: client.delete(name, chosen)


def delete_matching(world: Any) -> Write:
    rare = m.Filter(must=[kind("a"), m.FieldCondition(key="rank", match=m.MatchValue(value=world.rng.randint(0, 20)))])
    return lambda client, name: client.delete(name, rare)


def set_payload(world: Any) -> Write:
    payload, chosen = {"rank": world.rng.randint(0, 20), "extra": {"deep": [1, "two", None]}}, selector(world)
    return lambda client, name: client.set_payload(name, payload, chosen)


def set_payload_inside(world: Any) -> Write:
    ids = world.rng.sample(world.alive, 3)
    return lambda client, name: client.set_payload(name, {"seen": True}, ids, key="extra.inner")


def overwrite_payload(world: Any) -> Write:
    payload, ids = world.payload(), world.rng.sample(world.alive, 3)
    return lambda client, name: client.overwrite_payload(name, payload, ids)


def delete_payload(world: Any) -> Write:
    keys, chosen = world.rng.sample(["rank", "tags", "extra.deep", "absent"], 2), selector(world)
    return lambda client, name: client.delete_payload(name, keys, chosen)


def clear_payload(world: Any) -> Write:
    ids = world.rng.sample(world.alive, 2)
    return lambda client, name: client.clear_payload(name, ids)


def batch_update(world: Any) -> Write:
    points, chosen = [world.point(identifier) for identifier in world.some_ids()], kind("c")
    vectors = [m.PointVectors(id=points[0].id, vector={"man": world.dense()})]
    ids = [point.id for point in points]
    operations = [
        m.UpsertOperation(upsert=m.PointsList(points=points)),
        m.UpdateVectorsOperation(update_vectors=m.UpdateVectors(points=vectors)),
        m.DeleteVectorsOperation(delete_vectors=m.DeleteVectors(points=ids[:2], vector=["cos"])),
        m.SetPayloadOperation(set_payload=m.SetPayload(payload={"batch": 1}, points=ids)),
        m.OverwritePayloadOperation(overwrite_payload=m.SetPayload(payload={"new": 2}, points=ids[:1])),
        m.DeletePayloadOperation(delete_payload=m.DeletePayload(keys=["price"], filter=chosen)),
        m.ClearPayloadOperation(clear_payload=m.PointIdsList(points=ids[1:2])),
        m.DeleteOperation(delete=m.PointIdsList(points=ids[2:3])),
    ]
    return lambda client, name: client.batch_update_points(name, operations)


WRITES = (
    upsert, upsert_batch, upsert_some, update_vectors, delete_vectors, delete, delete_matching, set_payload,
    set_payload_inside, overwrite_payload, delete_payload, clear_payload, batch_update,
)  # fmt: skip


@pytest.mark.slow
def test_random_writes_leave_the_same_content(filled: Any, world: Any) -> None:
    for step in range(STEPS):
        world.alive = [record.id for record in filled.same_content()] if step % 5 == 0 else _alive(filled)
        filled.do(WRITES[step % len(WRITES) if step < len(WRITES) else world.rng.randrange(len(WRITES))](world))
    filled.reopen()  # else Edge's IDF still counts the deleted: see test_edge_differences
    assert filled.same_content()
    for using in ("cos", "dot", "euclid", "man"):
        filled.same_ranking(query=world.dense(), using=using, limit=20)
    if not filled.is_server:  # whose IDF counts the deleted until it has vacuumed them
        filled.same_ranking(query=world.sparse(), using="sparse", limit=20)


def _alive(filled: Any) -> list[Any]:
    return [record.id for record in filled.edge.scroll(filled.name, limit=1000, with_payload=False)[0]]


ONE_SEED = pytest.mark.parametrize("seed", [1], scope="module")


@pytest.mark.parametrize(
    "write",
    [
        lambda c, n: c.set_payload(n, {"z": 1}, [1, 9999]),
        lambda c, n: c.overwrite_payload(n, {"z": 1}, [9999]),
        lambda c, n: c.delete_payload(n, ["z"], [9999]),
        lambda c, n: c.clear_payload(n, [9999]),
        lambda c, n: c.delete_vectors(n, ["cos"], [9999]),
        lambda c, n: c.update_vectors(n, [m.PointVectors(id=9999, vector={"cos": [1.0] * 8})]),
    ],
)
@ONE_SEED
def test_writes_to_a_missing_point_fail_alike(filled: Any, write: Write) -> None:
    for client in (filled.edge, filled.other):
        with pytest.raises(Exception, match="9999"):
            write(client, filled.name)


@ONE_SEED
def test_deleting_a_missing_point_is_no_error(filled: Any) -> None:
    filled.do(lambda c, n: c.delete(n, [9999]))
    filled.same_content()


@ONE_SEED
def test_vectors_can_be_added_filled_and_dropped(filled: Any, world: Any) -> None:
    filled.require((1, 18), "vectors that are added and dropped by name")
    dense = m.DenseVectorNameConfig(dense=m.DenseVectorConfig(size=5, distance=m.Distance.COSINE))
    sparse = m.SparseVectorNameConfig(sparse=m.SparseVectorConfig(modifier=m.Modifier.IDF))
    filled.do(lambda c, n: c.create_vector_name(n, "late", dense))
    filled.do(lambda c, n: c.create_vector_name(n, "words", sparse))
    points = [
        m.PointVectors(id=i, vector={"late": world.dense()[:5], "words": world.sparse()}) for i in world.some_ids(60)
    ]
    filled.do(lambda c, n: c.update_vectors(n, points))
    assert len(filled.same_ranking(query=world.dense()[:5], using="late", limit=100)) == 60
    assert filled.same_ranking(query=world.sparse(), using="words", limit=100)
    filled.do(lambda c, n: c.delete_vector_name(n, "late"))
    filled.same_content()
    for client in (filled.edge, filled.other):
        with pytest.raises(Exception, match="late"):
            client.query_points(filled.name, world.dense()[:5], using="late")
        assert "late" not in client.get_collection(filled.name).config.params.vectors


@ONE_SEED
def test_the_unnamed_vector_works_alike(empty: Any, world: Any) -> None:
    empty.do(lambda c, n: c.create_collection(n, m.VectorParams(size=8, distance=m.Distance.DOT)))
    points = [m.PointStruct(id=i, vector=world.dense(), payload={"i": i}) for i in range(30)]
    empty.do(lambda c, n: c.upsert(n, points[:20]))
    empty.do(lambda c, n: c.upload_points(n, points[20:]))
    empty.same_content()
    empty.same_ranking(query=world.dense(), limit=10, with_vectors=True)
    empty.same_ranking(query=3, limit=10)
    moved = [m.PointVectors(id=3, vector=world.dense())]
    empty.do(lambda c, n: c.update_vectors(n, moved))
    empty.same_content()
    empty.same(lambda c, n: c.get_collection(n).config.params.vectors)


@ONE_SEED
def test_uploads_of_arrays_hold_what_lists_hold(empty: Any, world: Any) -> None:
    config = {
        "a": m.VectorParams(size=8, distance=m.Distance.DOT),
        "b": m.VectorParams(size=4, distance=m.Distance.DOT),
    }
    empty.do(lambda c, n: c.create_collection(n, config))
    arrays = {name: world.np.normal(size=(50, params.size)).astype("float32") for name, params in config.items()}
    payload = [{"i": i} for i in range(50)]
    empty.do(lambda c, n: c.upload_collection(n, arrays, payload, ids=range(50)))
    assert len(empty.same_content()) == 50
    empty.edge.upload_collection(empty.name, arrays, payload)
    assert empty.edge.count(empty.name).count == 100
