"""Pictures as judged queries, to evaluate and to tune by, and as a query that is explained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from colour_plugin import COLOURS
from diptych import Collection, Document, Query, Registry
from diptych.cli import app
from diptych.cli.run_command import Session
from diptych.errors import SearchError, TuneError
from diptych.evaluate import Qrels
from diptych.evaluate.ask import ask
from diptych.search import Pipeline, Rerank, Retrieve
from diptych.testing import FakeReranker
from diptych_lab.tune import EncoderChoice, tune_encoder
from diptych_lab.tune.index import of_bits

Run = Callable[..., Result]
PICTURES = [Query(id=name, media={"image": f"{name}.png"}) for name in COLOURS]
WHOLE = [setup for setup in of_bits() if setup.stored == "float32"]
QRELS = Qrels({name: {name: 1} for name in COLOURS})


@pytest.fixture
def collection(config: Any, colours: Registry, documents: list[Document]) -> Any:
    with Collection.open(config(), registry=colours) as opened:
        opened.populate(documents)
        yield opened


@pytest.fixture
def run(collection: Collection, config: Any, colours: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command over the filled collection, in a folder with judged pictures and, in `both`, also words."""
    collection.close()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "diptych.yaml").write_text(json.dumps(config()))
    asked: list[dict[str, Any]] = [{"_id": name, "media": {"image": f"{name}.png"}} for name in COLOURS]
    words: list[dict[str, Any]] = [{"_id": f"w-{name}", "text": f"{name} square"} for name in COLOURS]
    for folder, queries in (("judged", asked), ("both", [*asked, *words])):
        (tmp_path / folder / "qrels").mkdir(parents=True)
        (tmp_path / folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
        rows = [f"{query['_id']}\t{query['_id'].removeprefix('w-')}\t1" for query in queries]
        (tmp_path / folder / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]))

    def call(*arguments: object, code: int = 0) -> Result:
        done = CliRunner().invoke(app, [str(part) for part in arguments], obj=Session(colours))
        assert done.exit_code == code, done.output
        return done

    return call


def test_pictures_are_evaluated_by_the_slots_that_take_them(run: Run) -> None:
    done = run("evaluate", "judged", "--json")
    means = {own["run"]: own["means"]["nDCG@10"] for own in json.loads(done.stdout)["evaluations"]}
    assert means == {"picture": 1, "dbsf": 1}
    assert "left out: lexical, which can search with none of the queries" in done.stderr
    assert "no slot of the pipeline takes this query" in run("evaluate", "judged", "--only", "lexical", code=1).output


def test_among_words_and_pictures_each_slot_answers_what_it_takes(run: Run) -> None:
    found = {own["run"]: own for own in json.loads(run("evaluate", "both", "--json").stdout)["evaluations"]}
    assert found["lexical"]["unanswered"] == list(COLOURS)
    assert found["lexical"]["means"]["nDCG@10"] == 0.5
    assert found["picture"]["means"]["nDCG@10"] == 1


def test_a_picture_is_explained_on_the_command_line(run: Run, pictures: Path) -> None:
    picture = pictures / "green.png"
    (found,) = json.loads(run("search", "--explain", "--image", picture, "--json").stdout)["queries"]
    first, slots = found["explanations"][0], found["explanations"][0]["slots"]
    assert (found["query"], first["id"], slots["picture"]["rank"]) == ("", "green", 1)
    assert "lexical" not in slots or slots["lexical"]["rank"] is None
    options = ("--explain", "--media", f"image={picture}", "--id", "blue", "--json")
    (both,) = json.loads(run("search", "blue", *options).stdout)["queries"][0]["explanations"]
    assert both["slots"]["lexical"]["rank"] == 1
    assert "cannot be read" in run("search", "--explain", "--image", "nothing.png", code=1).output
    assert "holds no query" in run("search", "--explain", code=1).output


def test_pictures_are_not_reranked_by_what_reads_texts(collection: Collection) -> None:
    words = [Query(f"{name} square", id=f"w-{name}") for name in COLOURS]
    reranked = Pipeline((Retrieve("picture", 4),)) >> Rerank(FakeReranker(), 4)
    counts = list[int]()
    options: dict[str, Any] = {"depth": 4, "advance": counts.append}
    both = ask(collection.handle, [*PICTURES, *words], pipeline=reranked, **options)
    assert sum(counts) == 2 * len(COLOURS)
    alone = ask(collection.handle, PICTURES, pipeline=Pipeline((Retrieve("picture", 4),)), **options)
    assert [[(hit.id, hit.score) for hit in hits] for hits in both[: len(PICTURES)]] == [
        [(hit.id, hit.score) for hit in hits] for hits in alone
    ]
    with pytest.raises(SearchError, match="no slot of the pipeline takes this query"):
        ask(collection.handle, PICTURES, pipeline=Pipeline((Retrieve("lexical", 4),)), **options)


def test_a_search_is_not_tuned_by_pictures_that_a_slot_does_not_take(run: Run) -> None:
    shown = run("tune", "search", "both", code=1).output
    assert "not every slot and reranker can read all judged queries" in shown
    assert "where: lexical" in shown
    assert "4 of 8 queries, such as 'image: " in shown
    assert "compare with diptych evaluate" in shown


def test_encoders_of_pictures_are_tuned_by_pictures(collection: Collection) -> None:
    finer = EncoderChoice("finer", "colours", {"grid": 3})
    report = tune_encoder(collection.handle, PICTURES, QRELS, slot="picture", others=[finer], setups=WHOLE)
    assert {(row.documents, row.queries, row.value) for row in report.rows} == {
        ("now", "now", 1),
        ("finer", "finer", 1),
    }


def test_an_encoder_that_takes_no_pictures_cannot_be_tuned_by_them(collection: Collection) -> None:
    pitches = EncoderChoice("pitches", "pitches", documents=False)
    with pytest.raises(TuneError, match=r"(?s)no part of a query.*encoder 'pitches'.*got: image.*expected: sound"):
        tune_encoder(collection.handle, PICTURES, QRELS, slot="picture", others=[pitches])
