"""What `tune_encoder` measures is what exact search says, its choice keeps to the budget, and it only reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rows as support
from diptych import AdapterSpec, Collection, Registry, hookimpl
from diptych.errors import TuneError
from diptych.evaluate import Qrels
from diptych.testing import fakes_plugin
from diptych.types import Query
from diptych_lab.tune import EncoderBudget, EncoderChoice, EncoderReport, choices_of, tune_encoder
from diptych_lab.tune.index import bytes_read, of_bits
from named_server import placed

COUNT, WIDTH = 240, 64
QUERIES = [Query(f"q{n}", id=f"q{n}") for n in range(support.QUERIES)]
QRELS = Qrels({f"q{n}": {str(n): 1} for n in range(support.QUERIES)})
IN_MEMORY = {"store": "memory:"}


class Cut(support.Rows):
    """The rows, whose vectors may be cut, and whose queries may be noisy as those of a student."""

    def __init__(self, *, model: str = "", noise: float = 0.0, truncate_dim: int | None = None, seed: int = 0) -> None:
        super().__init__(count=COUNT, dimension=WIDTH, seed=seed)
        self.queries = self.queries + noise * np.random.default_rng(1).normal(size=self.queries.shape) / WIDTH**0.5
        self.dimension = truncate_dim or WIDTH
        self.rows, self.queries = (_unit(part[:, : self.dimension]) for part in (self.rows, self.queries))


def _unit(rows: Any) -> Any:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class Plugin:
    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        return [AdapterSpec(name="cut", kind="dense", factory=f"{__name__}:Cut", summary="rows that may be cut")]


def opened(place: Mapping[str, Any] = IN_MEMORY, **options: Any) -> Collection:
    slots = {"dense": {"adapter": "cut", **options}, "lexical": {"adapter": "fake-sparse"}}
    registry = Registry(Plugin(), fakes_plugin, installed=False)
    made = Collection.open({**place, "collection": "c", "slots": slots}, registry=registry)
    made.populate({"id": str(n), "text": str(n)} for n in range(COUNT))
    return made


@pytest.fixture(scope="module", params=["memory:", "server"])
def collection(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    with placed(request.param, tmp_path_factory.mktemp("store"), "c") as place, opened(place) as made:
        yield made


SETUPS = [setup for setup in of_bits() if setup.stored in ("float32", "turbo bits4")]
OTHERS = [
    EncoderChoice("student", "cut", {"noise": 0.4}, documents=False),
    EncoderChoice("stranger", "cut", {"seed": 9}),
]


@pytest.fixture(scope="module")
def report(collection: Collection) -> EncoderReport:
    """All ways, the smallest of which is within the budget."""
    return tune_encoder(
        collection.handle, QUERIES, QRELS, others=OTHERS, widths=[16], setups=SETUPS, budget=EncoderBudget(size=64)
    )


def test_values_are_those_of_exact_search(report: EncoderReport) -> None:
    rows = Cut()
    for name, noise, width in (("now", 0.0, WIDTH), ("now", 0.0, 16), ("student", 0.4, WIDTH), ("student", 0.4, 16)):
        asked = _unit(Cut(noise=noise).queries[:, :width])
        scores = asked @ _unit(rows.rows[:, :width]).T
        ranks = (scores > scores[np.arange(len(asked)), np.arange(len(asked))][:, None]).sum(axis=1)
        wanted = np.where(ranks < 10, 1 / np.log2(ranks + 2), 0.0)
        first = (rows.queries @ rows.rows.T).argsort(axis=1)[:, -10:]
        found = scores.argsort(axis=1)[:, -10:]
        common = np.mean([len({*a} & {*b}) / 10 for a, b in zip(first.tolist(), found.tolist(), strict=True)])
        (row,) = [
            row
            for row in report.rows
            if (row.documents, row.queries, row.width) == ("now", name, width) and row.setup.stored == "float32"
        ]
        assert row.value == pytest.approx(wanted.mean(), abs=1e-6)
        assert row.overlap == pytest.approx(common, abs=1e-6)
        assert row.size == 4 * width
        assert row.cut == (width < WIDTH)


def test_each_way_is_tried_once_and_the_present_one_comes_last(report: EncoderReport) -> None:
    keys = [(row.documents, row.queries, row.width, row.setup.stored, row.setup.asked) for row in report.rows]
    assert len(keys) == len(set(keys)) == 2 * 3 * len(SETUPS)
    assert (report.present, report.rows[-1].setup.now, report.rows[-1].name) == (
        len(keys) - 1,
        True,
        "now, 64 numbers, float32",
    )
    assert {bytes_read(setup.storage, WIDTH) for setup in of_bits()} == {256, 128, 64, 32, 16, 8}
    assert report.left_out == (("now", "stranger"), ("stranger", "now"), ("stranger", "student"))
    assert (report.sample, report.documents, report.queries) == (COUNT, COUNT, len(QUERIES))


def test_the_choice_is_within_the_budget_and_the_present_way_need_not_be(report: EncoderReport) -> None:
    chosen = report.rows[report.chosen]
    assert chosen.size <= 64
    assert (report.fits, report.reached, report.passed) == (False, True, True)
    equal = [row for row in report.rows if row.size <= 64 and row.value == pytest.approx(chosen.value)]
    assert chosen.value == pytest.approx(max(row.value for row in report.rows if row.size <= 64))
    assert (chosen.encoding, chosen.size) == min((row.encoding, row.size) for row in equal)
    assert report.verdict.startswith(chosen.name)
    assert report.verdict.endswith("it is the best within the budget, which the present way exceeds")


def test_a_budget_that_nothing_fits_changes_nothing_and_the_nearest_row_is_named(collection: Collection) -> None:
    found = tune_encoder(
        collection.handle, QUERIES, QRELS, others=OTHERS, widths=[16], setups=SETUPS, budget=EncoderBudget(size=1)
    )
    chosen, least = found.rows[found.chosen], min(row.size for row in found.rows)
    assert (found.reached, found.passed, found.gain, chosen.size) == (False, False, None, least)
    assert chosen.value == max(row.value for row in found.rows if row.size == least)
    assert found.verdict.endswith(f" ms and {least} bytes")


def test_few_queries_choose_nothing(collection: Collection) -> None:
    found = tune_encoder(
        collection.handle, QUERIES[:5], QRELS, widths=[64], setups=SETUPS, budget=EncoderBudget(size=64)
    )
    assert (found.passed, found.gain) == (False, None)
    assert "5 judged queries are too few to choose by" in found.verdict


def test_what_cannot_be_tuned_is_refused(collection: Collection) -> None:
    for options, what in (
        ({"slot": "lexical"}, "only dense slots are tuned"),
        ({"widths": [65]}, "no encoder has vectors of this width"),
        ({"others": [EncoderChoice("now", "cut")]}, "two encoders have one name"),
        ({"others": [EncoderChoice("sparse", "fake-sparse")]}, "this encoder makes no dense vectors"),
    ):
        with pytest.raises(TuneError, match=what):
            tune_encoder(collection.handle, QUERIES, QRELS, **options)
    with pytest.raises(TuneError, match="no query has a relevant document"):
        tune_encoder(collection.handle, QUERIES, Qrels({"q0": {"0": 0}}))


def test_an_adapter_that_cannot_cut_its_vectors_is_tried_whole_and_says_so() -> None:
    registry = Registry(fakes_plugin, installed=False)
    slots = {"dense": {"adapter": "fake-dense"}}
    with Collection.open({"store": "memory:", "collection": "c", "slots": slots}, registry=registry) as made:
        made.populate({"id": str(n), "text": f"word{n}"} for n in range(12))
        queries, qrels = [Query("word1", id="a")], Qrels({"a": {"1": 1}})
        assert {row.width for row in tune_encoder(made.handle, queries, qrels, setups=[]).rows} == {64}
        with pytest.raises(TuneError, match="fake-dense has no truncate_dim"):
            tune_encoder(made.handle, queries, qrels, widths=[32], setups=[])


def test_exits_and_students_are_found_in_folders(tmp_path: Path) -> None:
    for name in ("model", "model/exit_2", "student", "other/exit_2"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    entries = [{"layers": 2, "folder": "exit_2"}, {"layers": 4, "folder": "."}]
    for name in ("model", "other"):
        (tmp_path / name / "exits.json").write_text(json.dumps(entries))
    (tmp_path / "student" / "teacher.json").write_text("{}")
    with opened(model=str(tmp_path / "model"), noise=0.1) as made:
        slot = made.handle.now().slot("dense")
        given = [str(tmp_path / "student"), f"fake-dense={tmp_path / 'other'}"]
        found = choices_of(slot, given)
        exits = [str(tmp_path / name / "exit_2") for name in ("model", "other")]
        assert [(own.name, own.adapter, own.documents) for own in found] == [
            (exits[0], "cut", True),
            ("student", "cut", False),
            ("other", "fake-dense", True),
            (exits[1], "fake-dense", True),
        ]
        assert dict(found[1].options) == {"model": given[0], "noise": 0.1}
        assert dict(found[2].options) == {"model": str(tmp_path / "other")}
        with pytest.raises(TuneError, match="there is no such model folder"):
            choices_of(slot, ["nowhere"])
        report = {"models": [{"adapter": "static", "options": {}}, {"adapter": "fake-dense", "name": "exit_2"}]}
        (tmp_path / "student" / "report.json").write_text(json.dumps(report))
        trained, named = (choices_of(slot, [f"{adapter}{given[0]}"])[1] for adapter in ("", "cut="))
        assert (trained.adapter, dict(trained.options)) == ("static", {"model": given[0]}), "as its training says"
        assert (named.adapter, dict(named.options)) == ("cut", {"model": given[0], "noise": 0.1})
        (tmp_path / "student" / "report.json").write_text("{}")
        assert choices_of(slot, given)[1].adapter == "cut"
        (tmp_path / "model" / "exits.json").write_text("[1]")
        with pytest.raises(TuneError, match="the list of exits cannot be read"):
            choices_of(slot)
