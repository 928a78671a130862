"""The timeline of a swap, as another process makes it, and the way back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from starlette.testclient import TestClient

from diptych import Collection, Registry
from diptych.config import Config, parse_config
from diptych.errors import CollectionError, GateFailed
from diptych.handle.open_handle import describes, live_lines, reading_of, storage_of
from diptych.metadata.models import Generation, QueryEncoder, State
from diptych.metadata.store import GATE, raw_metadata
from diptych.swap import ApplyOptions
from diptych_serve.studio.answers import CollectionAnswer
from serving import ANIMALS

Over = Callable[..., TestClient]
DOCUMENTS = [{"id": key, "text": text} for key, text in ANIMALS.items()]


def config(dimension: int = 8, **changes: Any) -> Config:
    slots = {"dense": {"adapter": "fake-dense", "dimension": dimension}}
    more = {"swap": {"gate": {"sample": 4, "unmeasured": 1}}, "cache": {"enabled": False}, **changes}
    return parse_config({"store": "memory:", "collection": "own", "slots": slots, **more})


@pytest.fixture
def served(fakes: Registry) -> Any:
    with Collection.open(config(), registry=fakes) as made:
        made.populate(DOCUMENTS)
        yield made


@pytest.fixture
def other(served: Collection, fakes: Registry) -> Collection:
    """The collection as another process has it."""
    return Collection.stored(served.client, "own", registry=fakes)


@pytest.fixture
def client(served: Collection, studio_over: Over) -> TestClient:
    return studio_over(served, writes=True)


def timeline(client: TestClient) -> dict[str, Any]:
    found = client.get("/studio/api/collection", params={"collection": "own"})
    assert found.status_code == 200, found.text
    answer: dict[str, Any] = found.json()
    assert CollectionAnswer.model_validate(answer).model_dump(mode="json") == answer, "as the OpenAPI document says"
    return answer


def _state_of(config: Config) -> State:
    """What a collection records that was made by a config."""
    facts: dict[str, Any] = {"number": 1, "kind": "dense", "space": "s", "numerics": "n"}
    slots, asking = {}, {}
    for name, slot in config.slots.items():
        made = {"adapter": slot.adapter, "options": slot.options, "storage": storage_of(slot)}
        slots[name] = Generation(vector=name, reading=reading_of(config.populate, slot), **made, **facts)
        if student := slot.student:
            own = Generation(vector="", adapter=student.adapter, options=student.options, **facts)
            asking[name] = QueryEncoder(generation=own, student=True)
    return State(slots=slots, asking=asking)


def states(swap: dict[str, Any]) -> dict[str, str]:
    return {step["name"]: step["state"] for step in swap["steps"]}


def back(client: TestClient, **body: object) -> Any:
    return client.post("/studio/api/swap/rollback", json={"collection": "own", "confirm": "own", **body})


class AtFirst:
    """A progress that calls `look` before the first documents are encoded."""

    def __init__(self, look: Callable[[], None]) -> None:
        self.look = look

    def begin(self, stage: str, total: int | None) -> None:
        if stage == "fill":
            self.look()

    def advance(self, stage: str, n: int) -> None:
        pass


def test_a_collection_that_was_never_swapped_says_how_to_begin(client: TestClient) -> None:
    swap = timeline(client)
    assert (swap["state"], swap["steps"], swap["reason"] != "") == ("none", [], True)
    assert "diptych plan and diptych apply" in swap["sentence"]
    (row,) = swap["vectors"]
    assert (row["state"], row["points"], row["side"]) == ("live", 4, "slot:dense")
    answer = back(client)
    assert (answer.status_code, "nothing to roll back to" in answer.json()["error"]["message"]) == (409, True)


def test_a_back_fill_of_another_process_is_seen(client: TestClient, other: Collection) -> None:
    seen: list[dict[str, Any]] = []
    report = other.apply(config(16), progress=AtFirst(lambda: seen.append(timeline(client))))
    assert report.outcome == "cut over"
    (swap,) = seen
    assert swap["state"] == "filling"
    assert states(swap) == {"plan": "done", "back-fill": "running", "gate": "waiting", "cut-over": "waiting"}
    plan, fill, *_ = swap["steps"]
    assert plan["text"].startswith("dense: fake-dense, generation 2, dimension: 8 -> 16; begun 20")
    assert (fill["done"], fill["total"]) == (0, 4)
    assert {row["state"] for row in swap["vectors"]} == {"live", "building"}
    assert "is applying a swap: stop it first" in swap["reason"]
    after = timeline(client)
    assert (after["state"], set(states(after).values())) == ("kept", {"done"})
    assert after["steps"][0]["text"].startswith("dense: fake-dense, generation 2, dimension: 8 -> 16; begun 20")
    assert after["steps"][2]["text"].startswith("not measured: ")
    assert {row["state"]: row["vector"] for row in after["vectors"]} == {"live": "dense.2", "kept": "dense.1"}


def test_a_stopped_back_fill_says_how_to_go_on_and_may_be_abandoned(client: TestClient, other: Collection) -> None:
    stopped = threading.Event()
    other.apply(config(16), progress=AtFirst(stopped.set), stopped=stopped)
    swap = timeline(client)
    assert (swap["state"], states(swap)["back-fill"]) == ("stopped", "waiting")
    assert "to continue: diptych apply" in swap["sentence"]
    assert swap["rollback"] == "abandon the swap, and drop dense.2"
    answer = back(client, seen=swap["seen"])
    assert (answer.status_code, answer.json()["outcome"]) == (200, "abandoned"), answer.text
    assert timeline(client)["sentence"].startswith("no swap is under way; the last one was abandoned")


def test_why_the_gate_refused_a_swap_is_there_for_everybody(client: TestClient, other: Collection) -> None:
    strict = config(16, swap={"gate": {"sample": 4, "missing": 0}})
    other.client.upsert("own", [_without_text()])
    with pytest.raises(GateFailed):
        other.apply(strict)
    swap = timeline(client)
    assert (swap["state"], states(swap)["gate"]) == ("stopped", "failed")
    assert "the gate refused it" in swap["sentence"]
    assert swap["steps"][2]["text"].startswith("refused 20")
    other.rollback()
    assert timeline(client)["state"] == "none"
    assert GATE not in raw_metadata(other.client, "own"), "what was said ends with the swap"


def _without_text() -> Any:
    from qdrant_client import models

    return models.PointStruct(id=7, vector={"dense.1": [1.0] * 8}, payload={"_diptych": {"id": "empty"}})


def test_a_rollback_is_confirmed_and_redone_by_another(client: TestClient, other: Collection) -> None:
    other.apply(config(16))
    swap = timeline(client)
    assert swap["reason"] == ""
    assert swap["rollback"] == "make generation 1 of dense (fake-dense, dimension: 8) live again, in one update"
    assert (swap["forward"], states(swap)["cut-over"]) == (False, "done")
    assert {row["state"]: row["options"] for row in swap["vectors"]} == {
        "live": ["dimension: 16"],
        "kept": ["dimension: 8"],
    }
    for confirm in ("", "Own", "other"):
        answer = back(client, confirm=confirm)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "not_confirmed")
    assert timeline(client)["seen"] == swap["seen"], "nothing was done"
    done = back(client, seen=swap["seen"], why="users find less").json()
    assert (done["outcome"], done["live"]) == ("rolled back", {"dense": "fake-dense, generation 1"})
    again = timeline(client)
    assert again["sentence"].startswith("rolled back 20")
    assert (again["forward"], states(again)["cut-over"]) == (True, "undone")
    assert again["rollback"] == "make generation 2 of dense (fake-dense, dimension: 16) live again, in one update"
    assert again["history"][-1]["why"] == "users find less"
    assert other.handle.read().live.slots["dense"].number == 1
    assert back(client, seen=again["seen"]).json()["live"] == {"dense": "fake-dense, generation 2"}
    forward = timeline(client)
    assert (forward["forward"], states(forward)["cut-over"]) == (False, "done")
    assert forward["sentence"].startswith("gone forward again 20")


@pytest.mark.parametrize("edited", ["dimension: 16", "dimension: 24"], ids=["as before the rollback", "meanwhile"])
def test_a_start_with_a_config_that_is_not_live_says_the_lines_to_restore(
    fakes: Registry, tmp_path: Path, edited: str
) -> None:
    file = tmp_path / "diptych.yaml"
    text = (
        f"store: edge:{tmp_path / 'qdrant'}\ncollection: own\ncache: {{enabled: false}}\n"
        "slots:\n  dense: {adapter: fake-dense, dimension: 8}\n"
    )
    file.write_text(text)
    with Collection.open(file, registry=fakes) as collection:
        collection.populate(DOCUMENTS)
        collection.apply(
            parse_config(YAML().load(text.replace("dimension: 8", "dimension: 16"))), ApplyOptions(gate=False)
        )
        collection.rollback()
    file.write_text(text.replace("dimension: 8", edited))
    with pytest.raises(CollectionError) as caught:
        Collection.open(file, registry=fakes)
    notes = caught.value.__notes__
    assert any("restore their lines" in note for note in notes)
    assert any("--store and --collection" in note for note in notes)
    file.write_text(text.partition("slots:")[0] + "\n".join(note[2:] for note in notes if note.startswith("  ")))
    with Collection.open(file, registry=fakes) as collection:
        assert collection.search("owls")


def test_the_lines_to_restore_describe_what_is_live() -> None:
    slots = {
        "dense": {
            "adapter": "fake-dense",
            "passages": {"tokens": 64},
            "storage": {"datatype": "float16"},
            "query": {"student": "small", "adapter": "fake-other", "seed": 3},
        },
        "lexical": {"adapter": "fake-sparse", "token": "${TOKEN}"},
    }
    before = parse_config({"store": "memory:", "collection": "own", "slots": slots})
    live = _state_of(before)
    other = {"lexical": slots["lexical"], "dense": {"adapter": "fake-dense"}, "more": {"adapter": "fake-sparse"}}
    now = parse_config(
        {"store": "memory:", "collection": "own", "slots": other, "populate": {"input": ["text"], "separator": "\n"}}
    )
    lines = "\n".join(live_lines(now, live))
    assert "# remove more" in lines
    read = YAML(typ="safe", pure=True).load(lines)
    again = parse_config({"store": "memory:", "collection": "own", **read})
    assert describes(again, live)


def test_a_rollback_of_another_state_than_was_seen_does_nothing(client: TestClient, other: Collection) -> None:
    other.apply(config(16))
    seen = timeline(client)["seen"]
    other.finish()
    other.apply(config(24))
    answer = back(client, seen=seen)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "state_changed"), answer.text
    assert other.handle.read().live.slots["dense"].number == 3


def test_a_studio_that_only_reads_rolls_nothing_back(served: Collection, other: Collection, studio_over: Over) -> None:
    other.apply(config(16))
    client = studio_over(served)
    swap = timeline(client)
    assert "--allow-writes" in swap["reason"]
    answer = back(client, seen=swap["seen"])
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "read_only")
    assert other.handle.read().live.slots["dense"].number == 2


def test_a_gate_that_was_ignored_is_shown_as_failed_with_what_it_said(client: TestClient, other: Collection) -> None:
    other.client.upsert("own", [_without_text()])
    other.apply(config(16), ApplyOptions(ignore_gate=True))
    swap = timeline(client)
    (gate,) = [step for step in swap["steps"] if step["name"] == "gate"]
    assert (gate["state"], gate["text"].startswith("worse: 1 of 5 points lack vector")) == ("failed", True)
    assert swap["history"][-1]["gate"] == gate["text"]


def test_a_collection_that_is_not_filled_yet_says_so(fakes: Registry, studio_over: Over) -> None:
    with Collection.open(config(), registry=fakes) as empty:
        client = studio_over(empty)
        assert timeline(client)["sentence"] == "the collection is not filled yet: diptych populate SOURCE"


def test_what_only_adds_a_slot_keeps_no_generation_and_says_so(client: TestClient, other: Collection) -> None:
    slots = {"dense": {"adapter": "fake-dense", "dimension": 8}, "lexical": {"adapter": "fake-sparse"}}
    other.apply(config(slots=slots), ApplyOptions(gate=False))
    swap = timeline(client)
    assert "no vectors were replaced, and a rollback searches without lexical again" in swap["sentence"]
    assert swap["rollback"] == "search without lexical again, in one update"
    (state,) = client.get("/studio/api/state").json()["collections"]
    labels = {side["id"]: side["label"] for side in state["sides"]}
    assert labels["state:kept"] == "before the cut-over (without lexical)"
    assert back(client, seen=swap["seen"]).status_code == 200
    assert "the other generation is kept" in timeline(client)["sentence"]
    (state,) = client.get("/studio/api/state").json()["collections"]
    labels = {side["id"]: side["label"] for side in state["sides"]}
    assert labels["state:kept"] == "before the rollback (lexical generation 1, fake-sparse)"
