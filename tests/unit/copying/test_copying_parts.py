"""The parts of a copy: what counts as the same point, digests, requests of bounded size, the pace, names of stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from diptych.copying import copy_collection
from diptych.copying.sides import CopyRecord, Digest, Rule, difference, record_of, same
from diptych.errors import CopyError
from diptych.slots.consent import place_of
from diptych.stores.versions import is_local
from diptych_edge import EdgeClient

COSINE, DOT = models.Distance.COSINE, models.Distance.DOT
F16, U8 = models.Datatype.FLOAT16, models.Datatype.UINT8


def params(distance: models.Distance, datatype: models.Datatype | None = None) -> models.VectorParams:
    return models.VectorParams(size=3, distance=distance, datatype=datatype)


def point(vector: Any = None, **payload: Any) -> models.Record:
    return models.Record.model_construct(id=7, payload=payload, vector=vector)


@pytest.mark.parametrize(
    ("own", "source", "target", "found"),
    [
        (params(DOT), [1.0, 2.0, 3.0], [1.0, 2.0, 3.0], ""),
        (params(DOT), [1.0, 2.0, 3.0], [1.0, 2.0, 3.0000005], "apart"),
        (params(COSINE), [0.6, 0.8, 0.0], [0.6, 0.80000004, 0.0], ""),
        (params(COSINE), [0.6, 0.8, 0.0], [0.6, 0.8001, 0.0], "apart by 0.0001"),
        (params(DOT, F16), [0.1, 2.0, 3.0], np.array([0.1, 2, 3], np.float16).astype(float).tolist(), ""),
        (params(DOT, F16), [0.1, 2.0, 3.0], [0.1005, 2.0, 3.0], "apart"),
        (params(COSINE, F16), [0.6, 0.8, 0.0], [0.6001, 0.8, 0.0], ""),
        (params(DOT, U8), [3.7, 300.0, -1.0], [3.0, 255.0, 0.0], ""),
        (params(DOT, U8), [3.0, 200.0, 1.0], [3.0, 201.0, 1.0], "apart"),
        (params(DOT), [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], ""),
        (params(DOT), [[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], "1 x 3 numbers in the source, 2 x 3"),
    ],
)
def test_a_vector_is_the_same_within_what_its_datatype_keeps(
    own: models.VectorParams, source: Any, target: Any, found: str
) -> None:
    said = Rule.of(own).difference(source, target)
    assert found in said
    assert bool(found) == bool(said)


@pytest.mark.parametrize(
    ("target", "found"),
    [
        (None, "not in the target"),
        (point({"a": [1.0]}, year=1999), ""),
        (point({"a": [1.0]}, year=2000), "payload, 'year'"),
        (point({"a": [1.0]}, year=1999, more=None), "payload, 'more'"),
        (point({}, year=1999), "vector 'a': only in the source"),
        (point({"a": [1.0], "b": [1.0]}, year=1999), "vector 'b': only in the target"),
        (point({"a": [2.0]}, year=1999), "vector 'a': apart"),
    ],
)
def test_a_difference_says_what_of_the_point_it_is(target: models.Record | None, found: str) -> None:
    said = difference(point({"a": [1.0]}, year=1999), target, {"a": Rule()})
    assert found in said
    assert bool(found) == bool(said)


def test_payloads_are_compared_as_json_where_true_is_not_1() -> None:
    assert same({"a": [1, {"b": None}]}, {"a": [1.0, {"b": None}]})
    assert not same({"a": True}, {"a": 1})
    assert not same({"a": [1, 2]}, {"a": [2, 1]})
    assert not same({"a": None}, {})


def test_a_digest_is_that_of_the_set_whatever_the_order() -> None:
    records = [models.Record.model_construct(id=i, payload={"n": i}, vector={"a": [float(i)]}) for i in range(5)]

    def digest(found: list[models.Record]) -> str:
        made = Digest()
        for record in found:
            made.add(record)
        return str(made)

    assert digest(records) == digest(records[::-1])
    changed = records[2].model_copy(update={"vector": {"a": [2.5]}})
    others = [records[:4], [*records, records[0]], [*records[:2], changed, *records[3:]]]
    assert len({digest(records), *map(digest, others)}) == 4


def test_a_rate_must_be_positive() -> None:
    with pytest.raises(CopyError, match="a rate must be positive"):
        copy_collection(QdrantClient(":memory:"), "c", QdrantClient(":memory:"), rate=0)


def test_stores_are_named_alike_in_every_process_and_without_secrets(tmp_path: Path) -> None:
    with EdgeClient(tmp_path / "store") as edge:
        assert (place_of(edge), is_local(edge)) == (f"edge:{tmp_path / 'store'}", False)
    one, other = QdrantClient(":memory:"), QdrantClient(":memory:")
    assert is_local(one)
    assert place_of(one) == place_of(one) != place_of(other)
    servers = {
        "host:7000": QdrantClient(url="http://host:7000/", api_key=None, check_compatibility=False),
        "host:443": QdrantClient(url="https://host", port=443, api_key="SECRET", check_compatibility=False),
        "h:6334": QdrantClient(host="h", grpc_port=6334, prefer_grpc=True, check_compatibility=False),
    }
    for place, client in servers.items():
        assert (place_of(client), is_local(client)) == (place, False)
        client.close()


def test_a_record_is_read_back_and_a_damaged_one_is_refused() -> None:
    record = CopyRecord(store="edge:/a", collection="c", offset=12, copied=12)
    assert record_of(record.payload(), "target") == record
    assert record_of({}, "target") is None
    with pytest.raises(CopyError, match=r"cannot be read\n  where: target, metadata diptych_copy.stage"):
        record_of({"diptych_copy": {"store": "s", "collection": "c", "stage": "half"}}, "target")
