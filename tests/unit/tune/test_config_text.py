"""What `--write` puts into a config file: valid, with comments and quotes."""

from __future__ import annotations

import re
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
STUDENT = {"adapter": "static", "student": "./runs/student", "truncate_dim": 64}
STORAGE = {"quantization": {"kind": "turbo", "bits": "bits4"}, "on_disk": True}


def after(path: Path, dense: dict[str, Any], search: dict[str, Any]) -> str:
    """The text of the file with these keys in its slot and its search section."""

    def edit(raw: Any) -> str:
        raw["slots"]["dense"].update(dense)
        raw["search"].update(search)
        return "slots.dense, search"

    return edited(path, ADAPTERS, edit, ("slots", "search")).text


def test_comments_quotes_and_other_sections_stay(tmp_path: Path) -> None:
    (path := tmp_path / "diptych.yaml").write_text(CONFIG)
    text = after(path, {"truncate_dim": 64}, {"params": {"rescore": True}})
    changed = CONFIG.replace('"./m"}', '"./m", truncate_dim: 64}').replace(
        "limit: 3\n", "limit: 3\n  params:\n    rescore: true\n"
    )
    assert sorted(re.sub(" +", " ", text).splitlines()) == sorted(re.sub(" +", " ", changed).splitlines())


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
def test_what_is_written_can_be_loaded_however_the_file_is_written(config: str, tmp_path: Path) -> None:
    (path := tmp_path / "diptych.yaml").write_text(config)
    path.write_text(after(path, {"query": STUDENT, "storage": STORAGE}, {}))
    slot = load_config(path).slots["dense"]
    assert (slot.query and slot.query.adapter, slot.storage.on_disk) == ("static", True)
