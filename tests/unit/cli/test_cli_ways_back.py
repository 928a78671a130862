"""`diptych rollback` and `diptych finish` end what `diptych apply` began."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli_values import NEW, edit
from diptych.errors import FollowWarning
from diptych.metadata.store import behind_key
from diptych_edge import EdgeClient
from small_server import Routes, served

Run = Callable[..., Any]


def live(run: Run) -> list[str]:
    return [own["vector"] for own in run("status", "--json").json()["vectors"] if own["role"] == "live"]


def test_a_config_with_a_student_can_be_kept_after_its_rollback(run: Run, config: Path, corpus: Path) -> None:
    assert run("populate", corpus).code == 0
    edit(config, "fake-dense}", "fake-dense, query: {student: near, adapter: pupil, dimension: 64}}")
    assert run("apply", "--no-gate").code == 0
    warning = "'dense': its own encoder makes the queries until diptych apply admits it"
    assert warning in run("rollback").err
    with pytest.warns(FollowWarning, match="until diptych apply admits"):
        assert run("search", "mice").code == 0


def test_ways_back_make_no_encoder(edited: Run, config: Path, tmp_path: Path) -> None:
    edit(config, NEW, "fake-dense, seed: 1, log: ./calls}")
    edited("apply")
    (tmp_path / "calls").unlink()
    for command in ("rollback", "rollback", "finish"):
        assert edited(command).code == 0
    assert not (tmp_path / "calls").exists()


@pytest.mark.slow
def test_rollback_to_vectors_that_a_populate_could_not_write_is_refused_unless_it_is_forced(edited: Run) -> None:
    edited("apply")
    with EdgeClient("qdrant") as client:
        client.update_collection("animals", metadata={behind_key("dense.1"): True})
    assert "dense.1 lacks documents that a populate could not write" in edited("status").out
    answer = edited("rollback")
    assert (answer.code, live(edited)) == (1, ["dense.2", "lexical.1"])
    assert "diptych rollback --anyway" in answer.err
    assert edited("rollback", "--anyway").code == 0
    assert live(edited) == ["dense.1", "lexical.1"]


def test_on_a_server_finish_can_leave_the_dropping_for_later(run: Run, config: Path, corpus: Path) -> None:
    with served(Routes(flush=1000)) as server:
        edit(config, "edge:./qdrant", server.url)
        assert run("populate", corpus).code == 0
        edit(config, "fake-dense}", NEW)
        assert run("apply").code == 0
        answer = run("finish", "--later")
        assert (answer.code, answer.out) == (0, "animals: finished, retired dense.1\n")
        assert "warning: dense.1: retired, no longer written" in answer.err
        assert "no generation uses dense.1; the next finish, apply or populate drops them" in run("status").err
        assert run("finish", "--later", "--json").json()["retired"] == ["dense.1"]


def test_finish_shows_how_long_it_waits_and_for_what(run: Run, config: Path, corpus: Path) -> None:
    with served(Routes(flush=1)) as server:
        edit(config, "edge:./qdrant", server.url)
        assert run("populate", corpus).code == 0
        edit(config, "fake-dense}", NEW)
        assert run("apply").code == 0
        answer = run("--verbose", "finish")
        assert (answer.code, answer.out) == (0, "animals: finished, dropped dense.1\n")
        assert re.search(r"wait \d+ s before dense\.1 is dropped, until the server has flushed", answer.err), answer.err
