"""Recipes that train for one threshold are measured by it, and choose their checkpoint by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from diptych_experimental.mw import ThresholdEvaluator
from diptych_training.running.run import HeldOutEvaluator
from every_recipe import made, options_of, write_world
from tiny_models import encoder
from tiny_training import Told


@pytest.mark.parametrize("more", [{}, {"focal": {}}])
def test_the_threshold_is_measured_and_auc_chooses_the_checkpoint(more: dict[str, Any], tmp_path: Path) -> None:
    write_world(tmp_path)
    run = tmp_path / "run"
    trained = made({**options_of("mw", tmp_path, run, epochs=3, evaluate_every=1), **more}, Told())
    after = trained.train().measured["after"]
    logged = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert after["pooled AUC"] == pytest.approx(
        max(own["eval_pooled AUC"] for own in logged if "eval_pooled AUC" in own)
    )
    model = SentenceTransformer(str(run), device="cpu")
    texts, names = list(trained.held.documents.values()), list(trained.held.documents)
    scores = model.encode_query([trained.held.queries[q] for q in trained.held.qrels]) @ model.encode_document(texts).T
    relevant = np.array([[name in trained.held.relevant(q) for name in names] for q in trained.held.qrels])
    above = (scores[relevant][:, None] > scores[~relevant][None]).mean()
    assert after["pooled AUC"] == pytest.approx(float(above), abs=1e-6)
    found = scores >= after["threshold"] - 1e-6
    assert after["F1"] == pytest.approx(2 * (found & relevant).sum() / (found.sum() + relevant.sum()))
    assert "nDCG@10" in after


def test_documents_are_encoded_once_for_the_search_and_the_threshold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_world(tmp_path)
    trained = made(options_of("mw", tmp_path, tmp_path / "run", epochs=1), Told())
    measure, model = trained.evaluator(), encoder(tmp_path / "model")
    assert isinstance(measure, ThresholdEvaluator)
    plain = HeldOutEvaluator(measure.inner)(model)
    encoded: list[str] = []
    real = model.encode_document

    def counted(texts: list[str], **options: Any) -> Any:
        encoded.extend(texts)
        return real(texts, **options)

    monkeypatch.setattr(model, "encode_document", counted)
    found = measure(model)
    assert sorted(encoded) == sorted(measure.inner.corpus)
    assert {name: found[name] for name in plain} == pytest.approx(plain)
