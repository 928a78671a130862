"""A card is shared, the paths of a machine are not."""

from __future__ import annotations

from pathlib import Path

from diptych_training.recipes.base import _shortened


def test_paths_of_any_option_have_their_last_two_parts_and_other_texts_stay(tmp_path: Path) -> None:
    (tmp_path / "runs" / "teacher").mkdir(parents=True)
    given = {"teacher": {"model": str(tmp_path / "runs" / "teacher")}, "prompts": ["/query: ", "/" + "x" * 300]}
    assert _shortened({**given, "corpus": tmp_path / "a" / "b"}) == {
        "teacher": {"model": "runs/teacher"},
        "prompts": ["/query: ", "/" + "x" * 300],
        "corpus": "a/b",
    }
