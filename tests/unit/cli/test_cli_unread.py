"""The command line says how much of the documents an encoder leaves unread."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONFIG = "store: edge:./qdrant\ncollection: c\nslots:\n  dense: {adapter: fake-dense, dimension: 16, max_tokens: 10}\n"
SENTENCE = "50% of 20 documents are longer than 10 tokens, 30% of all tokens unread"


def test_populate_info_and_plan_say_what_is_unread(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "diptych.yaml").write_text(CONFIG)
    texts = [" ".join(f"w{n:03}{k:x}" for k in range(4 if n % 2 else 16)) for n in range(20)]
    (tmp_path / "corpus.jsonl").write_text(
        "\n".join(json.dumps({"id": n, "text": text}) for n, text in enumerate(texts))
    )
    populated = run("populate", "corpus.jsonl")
    assert f"dense: {SENTENCE}\n" in populated.out
    assert f"warning: slot 'dense': {SENTENCE}" in populated.err
    assert f"unread      {SENTENCE} (all documents encoded so far)\n" in run("info").out
    assert run("info", "--json").json()["slots"][0]["unread"]["unread"] == 60
    assert f"dense: {SENTENCE.replace('of 20', 'of a sample of 20')}\n" in run("plan").out


def test_apply_warns_of_what_the_new_encoder_leaves_unread(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "diptych.yaml").write_text(CONFIG.replace("max_tokens: 10", "max_tokens: 100"))
    texts = [" ".join(f"w{n:03}{k:x}" for k in range(4 if n % 2 else 16)) for n in range(20)]
    (tmp_path / "corpus.jsonl").write_text(
        "\n".join(json.dumps({"id": n, "text": text}) for n, text in enumerate(texts))
    )
    populated = run("populate", "corpus.jsonl")
    assert (populated.code, populated.err) == (0, "")
    (tmp_path / "diptych.yaml").write_text(CONFIG)
    applied = run("apply", "--no-gate")
    assert applied.code == 0
    assert "cut over" in applied.out
    assert f"warning: slot 'dense': {SENTENCE}, and no query of this slot finds what they say." in applied.err
