from __future__ import annotations

import json
import os
import random
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models

import diptych_edge
from diptych.errors import CollectionError, StoreError
from diptych_edge import EdgeClient

KILLS = int(os.environ.get("DIPTYCH_EDGE_KILLS", "3"))  # of the writer among updates, deletions and exchanges
Start = Callable[[str], subprocess.Popen[str]]


def test_everything_comes_back_after_closing(docs: EdgeClient) -> None:
    docs.update_collection("docs", metadata={"slot": {"dense": 1}})
    docs.update_collection_aliases(
        [models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name="docs", alias_name="latest"))]
    )
    before = docs.get_collection("docs"), docs.scroll("docs", with_vectors=True)
    docs.close()
    with EdgeClient(docs.path) as again:
        assert again.get_collection("latest").config == before[0].config
        assert again.scroll("latest", with_vectors=True) == before[1]


KILLED = """
    from diptych_edge.engine import collection
    from diptych_edge.engine.catalog import Catalog
    params = models.VectorParams(size=8, distance=models.Distance.DOT)
    client = EdgeClient(folder)
    if {action!r} == "delete":
        client.create_collection("docs", params)
        client.upsert("docs", [models.PointStruct(id=1, vector=[1.0] * 8, payload={{}})])
    def end(frame, event, argument):
        global left
        left -= frame.f_code.co_filename.startswith({package!r})
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return end
    left = {lines}
    sys.settrace(end)
    client.create_collection("docs", params) if {action!r} == "create" else client.delete_collection("docs")
    sys.settrace(None)
    print("done", flush=True)
    """


@pytest.mark.slow
@pytest.mark.parametrize("action", ["create", "delete"])
def test_a_kill_at_any_line_of_a_creation_or_deletion_leaves_all_or_nothing(
    start: Start, tmp_path: Path, folder: Path, action: str
) -> None:
    package = str(Path(diptych_edge.__file__).parent)
    seen = set()
    for lines in (*range(2, 200, 66), 10_000):
        output, errors = start(KILLED.format(action=action, package=package, lines=lines)).communicate(timeout=60)
        assert errors == ""
        with EdgeClient(folder) as client:
            there = client.collection_exists("docs")
            assert not there or client.count("docs").count == (action == "delete")
            assert there == bool(next((folder / "collections").iterdir(), None))
            client.delete_collection("docs")
        seen.add((output, there))
    done = ("done\n", action == "create")
    assert seen >= {done, ("", action == "delete")}


@pytest.mark.parametrize(
    "pending", [{"drop": "dense"}, {"add": "late", "config": {"dense": {"size": 3, "distance": "Dot"}}}]
)
def test_a_change_of_vectors_that_was_cut_short_is_finished(docs: EdgeClient, pending: dict[str, object]) -> None:
    docs.get_collection("docs")
    docs.close()
    record = next(docs.path.glob("collections/*/collection.json"))
    content = {**json.loads(record.read_text()), "pending": pending}
    del content["checksum"]
    record.write_text(json.dumps(content))
    with EdgeClient(docs.path) as again:
        vectors = again.get_collection("docs").config.params.vectors
        assert isinstance(vectors, dict)
        assert set(vectors) == ({"tokens"} if "drop" in pending else {"dense", "tokens", "late"})
    assert json.loads(record.read_text())["pending"] is None


DAMAGED = {
    "not JSON": ("{", "JSONDecodeError"),
    "not text": ("\ufeff{}", "JSONDecodeError"),
    "a list": ("[]", "a list where an object belongs"),
    "null": ("null", "a NoneType where an object belongs"),
    "keys missing": ('{"format": 1}', r"name: nothing\n  expected: a value"),
    "no shard": ('{"format": 1, "name": "docs", "config": {"vectors": {}}}', r"shard: nothing\n  expected: a value"),
    "a bad config": ('{WHOLE, "config": {"vectors": {"d": {"size": "x"}}}}', r"config\.vectors.*size"),
    "a config that is none": ('{WHOLE, "config": 3}', r"config: 3\n  expected: an object"),
    "a name that is none": ('{WHOLE, "name": null}', r"name: None\n  expected: text"),
    "a shard elsewhere": ('{WHOLE, "shard": "../x"}', "'../x' is no folder of data"),
    "no shard's name": ('{WHOLE, "shard": ""}', "'' is no folder of data"),
    "a later format": ('{WHOLE, "format": 99}', r"99\n  expected: 1"),
    "a changed byte": ("{CHECKED}", "its checksum"),
    "an unknown change": ('{WHOLE, "pending": {"swap": 1}}', "swap.* is no change of vectors"),
}


@pytest.mark.parametrize(("content", "text"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_record_names_its_file(docs: EdgeClient, content: str, text: str) -> None:
    docs.close()
    record = next(docs.path.glob("collections/*/collection.json"))
    whole = record.read_text()
    unchecked = re.sub(r', "checksum": \d+', "", whole)
    changed = whole.replace('"docs"', '"dogs"')
    record.write_text(content.replace("WHOLE", unchecked[1:-1]).replace("{CHECKED}", changed))
    aliases = docs.path / "aliases.json"
    with pytest.raises(
        StoreError, match=rf"(?s)embedded store (is damaged|has another).*collection\.json.*got: .*{text}"
    ):
        EdgeClient(docs.path)
    record.write_text(whole)
    aliases.write_text('{"format": 1, "aliases": {"a": [1]}}')
    with pytest.raises(StoreError, match=r"(?s)is damaged.*aliases\.json.*a: \[1\]\n  expected: text.*restore it"):
        EdgeClient(docs.path)
    aliases.unlink()
    with EdgeClient(docs.path) as again:
        assert again.count("docs").count == 4


@pytest.mark.parametrize("write", ["upsert", "set_payload", "overwrite_payload"])
def test_a_payload_too_deep_for_the_log_is_refused_before_it_is_written(tmp_path: Path, write: str) -> None:
    deep: dict[str, Any] = {}
    for _ in range(130):
        deep = {"a": [deep]}
    params = models.VectorParams(size=2, distance=models.Distance.DOT)
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", vectors_config=params)
        client.upsert("c", [models.PointStruct(id=1, vector=[1.0, 2.0], payload={"b": {"c": [1, {"d": 2}]}})])
        calls: dict[str, Any] = {
            "upsert": lambda: client.upsert("c", [models.PointStruct(id=2, vector=[1.0, 2.0], payload=deep)]),
            "set_payload": lambda: client.set_payload("c", deep, points=[1]),
            "overwrite_payload": lambda: client.overwrite_payload("c", deep, points=[1]),
        }
        with pytest.raises(CollectionError, match="nested too deeply"):
            calls[write]()
    with EdgeClient(tmp_path) as client:
        assert client.count("c").count == 1
        assert client.retrieve("c", [1])[0].payload == {"b": {"c": [1, {"d": 2}]}}


def test_a_kill_right_after_a_collection_was_made_leaves_it_as_it_was(start: Start, folder: Path) -> None:
    """Its first operation has the number 0, and a new shard says of itself that it has got so far."""
    for writes in (0, 1):
        code = f"""
            client = EdgeClient(folder)
            client.create_collection("docs{writes}", {{"d": models.VectorParams(size=2, distance=models.Distance.DOT)}})
            for i in range({writes}):
                client.upsert("docs{writes}", [models.PointStruct(id=i, vector={{"d": [1.0, 2.0]}}, payload={{}})])
            os.kill(os.getpid(), signal.SIGKILL)
            """
        assert start(code).wait(120) == -9
        for number in range(2):
            with EdgeClient(folder) as client:
                assert client.count(f"docs{writes}").count == writes + number
                client.upsert(
                    f"docs{writes}", [models.PointStruct(id=9 + number, vector={"d": [1.0, 2.0]}, payload={})]
                )
                assert client.count(f"docs{writes}").count == writes + number + 1


KILLED_AT_OPENING = """
    from diptych_edge.engine import collection
    def killed(place, *_):
        segment = next(path for path in (place / "segments").iterdir() if path.is_dir())
        (segment / "as_edge_makes_some").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    collection.begin = killed
    EdgeClient(folder).get_collection("docs")
    """


def test_a_kill_between_edges_opening_and_ours_is_no_damage(docs: EdgeClient, start: Start) -> None:
    """Edge changes files before we can say so."""
    docs.close()
    assert start(KILLED_AT_OPENING).wait(120) == -9
    with EdgeClient(docs.path) as again:
        assert again.count("docs").count == 4


KILLED_AMONG_ALL = """
    early = models.OptimizersConfigDiff(indexing_threshold=20)
    client = EdgeClient(folder)
    if not client.collection_exists("docs"):
        client.create_collection(
            "docs", {{"d": models.VectorParams(size=16, distance=models.Distance.DOT)}}, optimizers_config=early
        )
    rng = np.random.default_rng({turn})
    for turn in range({turn}, {turn} + 100_000):
        if turn % 10 == 3:
            client.optimize("docs", wait=False)
        chosen = [int(i) for i in rng.choice(2000, 40, replace=False)]
        print("delete" if turn % 4 == 1 else "write", turn, *chosen, "end", flush=True)
        if turn % 4 == 1:
            client.delete("docs", chosen)
        else:
            client.upsert("docs", [
                models.PointStruct(id=i, vector={{"d": [float(i), float(turn)] * 8}}, payload={{"turn": turn}})
                for i in chosen
            ])
        print("done", turn, "end", flush=True)
    """


State = dict[int, int]  # the turn in which each point was last written


def after(held: State, verb: str, turn: int, ids: list[int]) -> State:
    """The state after an operation."""
    if verb == "write":
        return {**held, **dict.fromkeys(ids, turn)}
    return {identifier: last for identifier, last in held.items() if identifier not in ids}


def states_of(lines: list[str], held: State) -> tuple[State, State, int]:
    """What must be there, what may be there instead, and the last turn, as told by a writer that was killed.

    The two differ by the one operation that was under way: it is done as a whole or not at all.
    """
    maybe, turn = held, 0
    for verb, number, *ids, end in (line.split() for line in lines if line.endswith("end\n")):
        assert end == "end"
        turn = int(number)
        if verb == "done":
            held = maybe
        else:
            maybe = after(held, verb, turn, [int(identifier) for identifier in ids])
    return held, maybe, turn


def read(folder: Path) -> State:
    """The turn of each point. Its vector tells the same."""
    with EdgeClient(folder) as client:
        records = client.scroll("docs", limit=10_000, with_vectors=True)[0]
        assert client.count("docs").count == len(records)
    found: State = {}
    for record in records:
        assert isinstance(record.id, int)
        assert isinstance(record.vector, dict)
        found[record.id] = int((record.payload or {})["turn"])
        assert record.vector["d"] == [float(record.id), float(found[record.id])] * 8
    assert len(list(folder.glob("collections/*/shard-*"))) == 1
    return found


@pytest.mark.slow
@pytest.mark.timeout(60 * KILLS + 300)
def test_kills_among_updates_deletions_and_exchanges_lose_nothing(start: Start, folder: Path) -> None:
    held: State = {}
    chance, turn = random.Random(0), 1
    for _ in range(KILLS):
        writer = start(KILLED_AMONG_ALL.format(turn=turn))
        assert writer.stdout is not None
        lines = [writer.stdout.readline()]
        time.sleep(chance.uniform(0.1, 2.0))
        writer.kill()
        lines += writer.stdout.read().splitlines(keepends=True)
        acknowledged, maybe, last = states_of(lines, held)
        held = read(folder)
        assert held in (acknowledged, maybe), f"turn {last}: {sorted(held.items() ^ acknowledged.items())[:20]}"
        turn = last + 1
