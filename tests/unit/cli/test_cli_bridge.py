"""`diptych apply --bridge` asks through a drift map where the old encoder is gone, and says so."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

from diptych import AdapterSpec, Registry, hookimpl
from diptych.testing import FakeDenseEncoder, fakes_plugin

Run: TypeAlias = Callable[..., Any]
WORDS = [f"{start}{end}" for start in ("ba", "de", "fi", "go", "lu") for end in ("nor", "mit", "sal", "tev", "rok")]
CONFIG = """\
store: edge:./qdrant
collection: words
slots:
  dense: {adapter: hosted}
"""


class Hosted(FakeDenseEncoder):
    """A model of an API that is retired once there is a file of that name."""

    def __init__(self) -> None:
        if Path("retired").exists():
            raise ConnectionError("410 Gone")
        super().__init__(dimension=48)


class Plugin:
    @staticmethod
    @hookimpl
    def diptych_register_adapters() -> list[AdapterSpec]:
        return [AdapterSpec(name="hosted", kind="dense", factory=f"{__name__}:Hosted", summary="An API's model.")]


@pytest.fixture
def registry() -> Registry:
    return Registry(fakes_plugin, Plugin, installed=False)


@pytest.fixture
def edited(run: Run, tmp_path: Path) -> Run:
    """A filled collection whose config names another encoder now, and judged queries."""
    random = np.random.default_rng(3)
    texts = {str(n): " ".join(random.choice(WORDS, 6)) for n in range(300)}
    lines = [json.dumps({"id": key, "text": text}) for key, text in texts.items()]
    (tmp_path / "words.jsonl").write_text("\n".join(lines))
    asked = [json.dumps({"_id": key, "text": texts[key]}) for key in list(texts)[:200]]
    (tmp_path / "queries.jsonl").write_text("\n".join(asked))
    rows = [f"{key}\t{key}\t1" for key in list(texts)[:200]]
    (tmp_path / "qrels.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]))
    config = tmp_path / "diptych.yaml"
    config.write_text(CONFIG)
    assert run("populate", "words.jsonl").code == 0
    # Of two texts of the same words either may come first: one loss in 200 queries leaves a margin of 0.02 undecided.
    evaluate = "evaluate: {queries: queries.jsonl, qrels: qrels.tsv}\nswap: {gate: {margin: 0.05}}\n"
    config.write_text(CONFIG.replace("hosted", "fake-dense, dimension: 64, seed: 1") + evaluate)
    return run


def test_queries_go_through_the_map_and_every_command_says_so(edited: Run, tmp_path: Path) -> None:
    (tmp_path / "retired").touch()
    assert "410 Gone" in edited("search", "banor demit", "--store", "edge:./qdrant", "--collection", "words").err
    answer = edited("apply", "--bridge", "--no-cut-over")
    assert answer.code == 0
    assert "warning" not in answer.err
    (told,) = [line for line in answer.out.splitlines() if line.startswith("dense: queries by")]
    # Pages are written side by side, so that the last one may be done when the first is reported.
    assert re.match(r"dense: queries by fake-dense through a drift map: (256|300) of 300 documents encoded: ", told)
    assert "the same with 200 real queries" in told
    assert "nDCG@10" in told
    assert answer.out.splitlines()[-1].startswith("the old vectors still answer; to cut over: diptych apply")
    assert told in edited("status").out.splitlines()
    assert edited("search", "banor demit").code == 0
    answer = edited("apply", "--no-gate")
    assert told.replace("dense: ", "dense: until the cut-over ") in answer.out.splitlines()
    assert "through a drift map" not in edited("status").out


def test_the_json_names_who_asks(edited: Run, tmp_path: Path) -> None:
    (tmp_path / "retired").touch()
    found = edited("apply", "--bridge", "--no-cut-over", "--json").json()
    assert found["asking"]["dense"].startswith("queries by fake-dense through a drift map: ")
    assert edited("apply", "--no-gate", "--json").json()["asking"] == found["asking"]


def test_an_encoder_that_works_is_not_bridged_and_a_warning_says_so(edited: Run) -> None:
    answer = edited("apply", "--bridge", "--no-cut-over")
    assert answer.code == 0
    warning = "warning: slot 'dense': the old encoder works and goes on answering, so no drift map is fitted"
    assert [line for line in answer.err.splitlines() if not line.endswith(" ...")] == [warning]
    assert "the old encoders still answer" in answer.out
    assert edited("apply", "--no-gate", "--json").json()["asking"] == {}
