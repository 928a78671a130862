"""`diptych plan` says what an edited config asks for, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli_values import edit
from diptych.cli.status import encoder_text
from diptych.config.problems import is_secret, redacted
from diptych_edge import EdgeClient

Run = Callable[..., Any]


def test_it_is_said_who_uses_edited_search_settings_before_apply(filled: Run, config: Path) -> None:
    said = "search: programs that open this config use these settings already, all others after diptych apply"
    edit(config, "limit: 3", "limit: 2")
    assert said in filled("plan", "--sample", 0).out
    assert filled("search", "animal", "--json").json()["queries"][0]["hits"][2:] == []
    stored = filled("search", "animal", "--json", "--store", "edge:qdrant", "--collection", "animals").json()
    assert len(stored["queries"][0]["hits"]) == 3
    edit(config, "fake-dense}", "fake-dense, seed: 1}")
    assert said not in filled("plan", "--sample", 0).out, "what opens the config is refused now"


def test_documents_that_lack_a_vector_are_to_be_filled_and_pending(filled: Run) -> None:
    with EdgeClient("qdrant") as client:
        points, _ = client.scroll("animals", limit=3)
        client.delete_vectors("animals", ["dense.1"], points=[point.id for point in points])
    answer = filled("plan", "--exit-code", "--sample", 0)
    assert answer.code == 4
    assert "dense fill gaps 3 3" in [" ".join(line.split()) for line in answer.out.splitlines()]
    assert "dense: 3 documents have no vector yet and get one" in answer.out
    assert "animals: filled gaps" in filled("apply").out
    assert filled("plan", "--exit-code").code == 0


def test_encoders_are_told_without_their_secrets_and_names_that_only_sound_like_secrets_are_shown() -> None:
    options = {"model": "m", "api_key": "s3cret", "token": "${HF_TOKEN}"}
    assert encoder_text("remote", options) == "remote, model: m, api_key: ***, token: ${HF_TOKEN}"
    hidden = {"keys": ["s3cret"], "password": None, "headers": {"Authorization": "s3cret"}}
    assert redacted(hidden) == {"keys": "***", "password": None, "headers": {"Authorization": "***"}}
    assert not [name for name in ("max_tokens", "tokenizer", "min_token_length", "token_budget") if is_secret(name)]
