"""What `--write` puts into a config file: valid, in few lines, and none of them broken in its middle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import diptych_adapters.hooks
from diptych import Registry
from diptych.config import load_config
from diptych_lab.tune import edited

ADAPTERS = Registry(diptych_adapters.hooks, installed=False)
CONFIG = """\
# of the shop
store: 'memory:'
collection: c

slots:
  dense: {adapter: sentence-transformers, model: "./m"}   # {the} model
  # of names
  other: {adapter:   bm25}

search:
  limit: 3

# at the end
evaluate: {metrics:   [nDCG@10]}
"""
DENSE = '  dense: {adapter: sentence-transformers, model: "./m"}   # {the} model\n'
SEARCH = "  limit: 3\n"
STUDENT = {"adapter": "static", "student": "./runs/student", "truncate_dim": 64}
STORAGE = {"quantization": {"kind": "turbo", "bits": "bits4"}, "on_disk": True}
LINES = """\
  dense:   # {the} model
    adapter: sentence-transformers
    model: ./m
    query:
      adapter: static
      student: ./runs/student
      truncate_dim: 64
    storage:
      quantization:
        kind: turbo
        bits: bits4
      on_disk: true
"""


def after(path: Path, dense: dict[str, Any], search: dict[str, Any]) -> str:
    """The text of the file with these keys in its slot and its search section."""

    def edit(raw: Any) -> str:
        raw["slots"]["dense"].update(dense)
        raw["search"].update(search)
        return "slots.dense, search"

    return edited(path, ADAPTERS, edit, ("slots", "search")).text


def test_a_slot_that_still_fits_stays_in_its_line(tmp_path: Path) -> None:
    (path := tmp_path / "diptych.yaml").write_text(CONFIG)
    line = '  dense: {adapter: sentence-transformers, model: "./m", truncate_dim: 64} # {the} model\n'
    assert after(path, {"truncate_dim": 64}, {}) == CONFIG.replace(DENSE, line)


def test_a_slot_that_no_longer_fits_into_its_line_gets_several_and_no_other_line_moves(tmp_path: Path) -> None:
    (path := tmp_path / "diptych.yaml").write_text(CONFIG)
    text = after(path, {"query": STUDENT, "storage": STORAGE}, {"params": {"rescore": True}})
    assert text == CONFIG.replace(DENSE, LINES).replace(SEARCH, f"{SEARCH}  params:\n    rescore: true\n")
    path.write_text(text)
    assert load_config(path).slots["dense"].query is not None


@pytest.mark.parametrize(
    "config",
    [
        CONFIG.replace("  ", "    "),
        CONFIG.replace(
            '{adapter: sentence-transformers, model: "./m"}', "{adapter: sentence-transformers,\n    model: ./m}"
        ),
        CONFIG.removesuffix("\n"),
        "{store: ./q, collection: c, slots: {dense: {adapter: sentence-transformers, model: m}}, search: {limit: 3}}\n",
    ],
    ids=["indented by four", "over two lines", "without an end of line", "all in one line"],
)
def test_no_line_is_broken_in_its_middle_however_the_file_is_written(config: str, tmp_path: Path) -> None:
    (path := tmp_path / "diptych.yaml").write_text(config)
    text = after(path, {"query": STUDENT, "storage": STORAGE}, {})
    assert not [line for line in text.splitlines() if len(line) > 120 or line.rstrip().endswith((",", "{"))], text
    path.write_text(text)
    slot = load_config(path).slots["dense"]
    assert (slot.query and slot.query.adapter, slot.storage.on_disk) == ("static", True)
