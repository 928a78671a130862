"""The recipe `student`: small models learn the queries of an encoder, and go into a config beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diptych.config import load_config
from diptych.config.models import SlotConfig
from diptych.encoders import Encoders
from diptych.errors import ConfigError
from diptych.slots.slot import Slot
from diptych.training import register
from diptych_lab.tune import choices_of
from diptych_training.losses.distillation import StudentLoss
from every_recipe import REGISTRY, made, options_of
from tiny_training import Told

pytestmark = pytest.mark.slow
pytest.importorskip("model2vec", reason="needs diptych[static]")


def options(world: Path, output: Path, **sections: Any) -> dict[str, Any]:
    return {**options_of("student", world, output, epochs=30, learning_rate=1e-2), **sections}


def teacher_slot(world: Path) -> Slot:
    config = SlotConfig(adapter="sentence-transformers", options={"model": str(world / "dense")})
    return Slot("dense", config, None, REGISTRY)


def test_a_student_comes_near_to_its_teachers_queries(world: Path, tmp_path: Path) -> None:
    given = options(world, tmp_path / "run")
    given["data"] = {"corpus": given["data"]["corpus"]}
    watcher = Told()
    report = made(given, watcher).train()
    (model,) = report.models
    assert (model.adapter, model.queries) == ("static", True)
    assert report.measured["after"]["nDCG@10"] > 0.8
    assert any("finding the teacher's own first 10 hits; the teacher's is 1.0000" in text for text in report.remarks)
    encoders = Encoders.open(None)
    teacher = encoders.with_options("sentence-transformers", {"model": str(world / "dense")})
    texts = ["word1 word2", "word7", "word11 word12 word13"]
    ours, theirs = (
        np.stack(encoder.encode_query(texts))  # type: ignore[arg-type]
        for encoder in (encoders.with_options(model.adapter, model.options), teacher)
    )
    assert (ours * theirs).sum(1).min() > 0.9
    (choice,) = choices_of(teacher_slot(world), [str(tmp_path / "run")])
    assert (choice.adapter, choice.documents) == ("static", False), "diptych tune encoder --with serves it alike"
    record = json.loads((tmp_path / "run" / "teacher.json").read_text())
    assert record == {"documents": teacher.fingerprint.documents or teacher.fingerprint.space}


def test_judged_queries_measure_and_do_not_teach(world: Path, tmp_path: Path) -> None:
    recipe = made(options(world, tmp_path / "run"), Told())
    assert "the teacher encoded" in recipe.prepare()[0]
    assert made(options(world, tmp_path / "run"), Told()).prepare() == [], "the teacher is asked once"
    learned, judged = (
        {json.loads(line)["text"] for line in path.read_text().splitlines()}
        for path in (tmp_path / "run" / "data" / "texts.jsonl", world / "queries.jsonl")
    )
    assert len(learned) == 24
    assert not learned & judged


def test_a_student_goes_beside_the_encoder_of_its_slot(world: Path, tmp_path: Path) -> None:
    given = options(world, tmp_path / "run")
    given["training"]["epochs"] = 1
    (model,) = made(given, Told()).train().models
    config = tmp_path / "diptych.yaml"
    config.write_text(
        "store: edge:./store\ncollection: c\nslots:\n"
        f"  dense: {{adapter: sentence-transformers, model: {world / 'dense'}}}  # big\n"
    )
    assert register(config, model, REGISTRY) == "slots.dense.query"
    slot = load_config(config).slots["dense"]
    assert slot.options == {"model": str(world / "dense")}
    assert slot.student is not None
    assert slot.student.options == {"model": str(tmp_path / "run")}
    assert "# big" in config.read_text()
    with pytest.raises(ConfigError, match=r"(?s)no such slot.*other.*dense"):
        register(config, model, REGISTRY, slot="other")


def test_the_loss_is_none_for_the_teacher_itself_and_its_gradient_agrees_with_differences() -> None:
    torch.manual_seed(0)
    teacher = torch.nn.functional.normalize(torch.randn(6, 5, dtype=torch.float64), dim=1)
    loss = StudentLoss(torch.nn.Identity(), teacher)
    assert float(loss.of_vectors(teacher, teacher)) == pytest.approx(0.0, abs=1e-6)
    student = torch.randn(6, 5, requires_grad=True)
    value = loss.of_vectors(student, teacher)
    (gradient,) = torch.autograd.grad(value, student)
    step = torch.randn(6, 5) * 1e-2
    with torch.no_grad():
        moved = loss.of_vectors(student + step, teacher) - loss.of_vectors(student - step, teacher)
    assert float(moved) == pytest.approx(2 * float((gradient * step).sum()), rel=0.05)
