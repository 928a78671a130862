from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from diptych.errors import EvaluationError
from diptych.evaluate import Qrels, evaluate, from_trec, to_trec
from diptych.types import Run

RUN = Run("mine", {"q1": [("a", 0.1 + 0.2), ("c", 1e-7), ("b", 1e-7)], "q2": [("a", -3.0)]})


@pytest.mark.parametrize("name", ["run.trec", "run.trec.gz"])
def test_a_run_comes_back_as_it_was_written(tmp_path: Path, name: str) -> None:
    to_trec(RUN, tmp_path / name)
    assert from_trec(tmp_path / name) == RUN
    assert from_trec(tmp_path / name, name="other").name == "other"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_file_is_what_the_tools_expect(tmp_path: Path) -> None:
    to_trec(RUN, tmp_path / "run.trec")
    assert (tmp_path / "run.trec").read_text().splitlines() == [
        "q1 Q0 a 1 0.30000000000000004 mine",
        "q1 Q0 c 2 1e-07 mine",
        "q1 Q0 b 3 1e-07 mine",
        "q2 Q0 a 1 -3.0 mine",
    ]
    to_trec(RUN, tmp_path / "run.trec.gz")
    assert gzip.decompress((tmp_path / "run.trec.gz").read_bytes()) == (tmp_path / "run.trec").read_bytes()


def test_a_file_evaluates_as_the_run_and_as_ir_measures_reads_it(graded: Qrels, tied_run: Run, tmp_path: Path) -> None:
    import ir_measures

    to_trec(tied_run, tmp_path / "run.trec")
    names = ("nDCG@10", "MRR@10", "Recall@100", "MAP", "P@10", "MRR")
    ours = evaluate(tied_run, graded, names)
    assert evaluate(from_trec(tmp_path / "run.trec"), graded, names).means == ours.means
    measures = [ir_measures.parse_measure(name) for name in ("nDCG@10", "AP", "P@10", "R@100", "RR@10", "RR")]
    judged = {query: dict(grades) for query, grades in graded.judgements.items()}
    read = ir_measures.read_trec_run(str(tmp_path / "run.trec"))
    theirs = ir_measures.calc_aggregate(measures, judged, read)
    assert list(theirs.values()) == pytest.approx(
        [
            ours.means[{"AP": "MAP", "R@100": "Recall@100", "RR@10": "MRR@10", "RR": "MRR"}.get(str(m), str(m))]
            for m in theirs
        ]
    )


def test_lines_are_sorted_by_score_whatever_their_rank_says(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("q1 Q0 a 1 0.5 tag\nq1 Q0 b 2 0.9 tag\nq1 Q0 c 3 0.5 tag\n")
    assert from_trec(tmp_path / "run").rankings == {"q1": [("b", 0.9), ("c", 0.5), ("a", 0.5)]}


def test_a_run_whose_scores_rise_is_written_by_rank_or_not_at_all(tmp_path: Path) -> None:
    rising = Run("mmr", {"q1": [("a", 0.5), ("b", 0.9)]})
    with pytest.raises(EvaluationError, match=r"scores rise.*\n.*rank 2\n  got: 0.9 after 0.5\n.*scores=\"rank\""):
        to_trec(rising, tmp_path / "run")
    to_trec(rising, tmp_path / "run", scores="rank")
    assert from_trec(tmp_path / "run").rankings == {"q1": [("a", 2.0), ("b", 1.0)]}


@pytest.mark.parametrize(("name", "tag"), [("rrf > late", "rrf_>_late"), ("", "run")])
def test_a_name_of_several_words_becomes_one_tag(tmp_path: Path, name: str, tag: str) -> None:
    to_trec(Run(name, RUN.rankings), tmp_path / "run")
    assert from_trec(tmp_path / "run") == Run(tag, RUN.rankings)
