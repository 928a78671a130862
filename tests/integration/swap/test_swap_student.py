"""A student makes the queries of an index that stays: admitted by the gate, kept, exchanged and rolled back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel
from qdrant_client import QdrantClient

from diptych.collection.explain import explain
from diptych.collection.verify import verify
from diptych.config import Config
from diptych.encoders import Encoders
from diptych.errors import CollectionError, ConfigError, FollowWarning, GateFailed, SwapError
from diptych.handle.collection_handle import CollectionHandle
from diptych.hookspecs import hookimpl
from diptych.populate import populate
from diptych.registry import Registry
from diptych.search import search
from diptych.specs import AdapterSpec
from diptych.swap import ApplyOptions, apply, finish, plan, rollback, status
from diptych.testing import FakeDenseEncoder
from diptych.types import Floats
from spaces import TURN, WIDTH, config, corpus, judged

MADE: list[str] = []  # the encoders that were created


class Big(FakeDenseEncoder):
    """The encoder of documents, whose queries may be turned away from them."""

    def __init__(self, model: str = "big") -> None:
        MADE.append(model)
        super().__init__(dimension=WIDTH // 2 if "narrow" in model else WIDTH, seed=int(model[-1] == "2"))
        self._model = model
        self.fingerprint = replace(self.fingerprint, space=f"{self.fingerprint.space} {model}")

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        exact = super().encode_query(inputs)
        if "far" in self._model:
            return np.asarray(exact @ TURN, np.float32)
        if "near" in self._model or "blurred" in self._model:
            near = exact + (0.01 if "near" in self._model else 0.7) * np.roll(exact, 1, axis=1)
            return np.asarray(near / np.linalg.norm(near, axis=1, keepdims=True), np.float32)
        return exact


class ModelOptions(BaseModel, extra="forbid"):
    model: str = "big"


class Adapters:
    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        return [
            AdapterSpec(
                name="big", kind="dense", factory=f"{__name__}:Big", options=ModelOptions, summary="Big.", cached=False
            )
        ]


@pytest.fixture
def registry() -> Registry:
    return Registry(Adapters(), installed=False)


@pytest.fixture
def documents() -> list[dict[str, str]]:
    return corpus(200)  # by so many queries, equal answers are not worse by more than the margin


@pytest.fixture
def filled(registry: Registry, documents: list[dict[str, str]]) -> CollectionHandle:
    handle = CollectionHandle(QdrantClient(":memory:"), "c", config("big"), registry)
    populate(handle, documents)
    return handle


def asked(student: str, **options: Any) -> Config:
    return config("big", query={"student": student}, **options)


def options(documents: list[dict[str, str]]) -> ApplyOptions:
    return ApplyOptions(judged=judged(documents))


def opened(handle: CollectionHandle, wanted: Config | None = None) -> CollectionHandle:
    """As another process opens it, with nothing loaded yet."""
    MADE.clear()
    return CollectionHandle(handle.client, "c", wanted, handle.registry)


def test_a_student_is_planned_admitted_and_alone_loaded_by_those_who_search(
    filled: CollectionHandle, documents: list[dict[str, str]]
) -> None:
    (step,) = plan(filled, asked("near")).steps
    assert (step.action, step.encode) == ("re-prompt", 0)
    assert "query.model: unset -> near" in step.why
    report = apply(filled, asked("near"), options(documents))
    assert report.outcome == "cut over"
    assert not any(report.encoded.values()), "the index stays"
    assert report.gate is not None
    assert report.gate.judged is not None
    assert "queries by big near" in status(filled).vectors[0].asking
    assert not plan(filled, asked("near")).pending
    assert apply(filled, asked("near"), options(documents)).outcome == "nothing to do"
    for other in (opened(filled), opened(filled, asked("near"))):
        assert search(other, [documents[5]["text"]])[0][0].id == "5"
        assert MADE == ["near"]
        MADE.clear()


def test_the_students_queries_are_explained_and_the_documents_verified_by_their_own_encoder(
    filled: CollectionHandle, documents: list[dict[str, str]]
) -> None:
    apply(filled, asked("near"), options(documents))
    other, text = opened(filled, asked("near")), documents[5]["text"]
    assert verify(other, sample=None).passed
    (query,), made = Big("near").encode_query([text]), Big()
    for explanation in explain(other, text):
        (document,) = made.encode_document([explanation.document.text])
        assert explanation.slots["dense"].score == explanation.score == pytest.approx(float(query @ document), abs=1e-5)


def test_a_student_that_answers_otherwise_does_not_pass_the_gate(
    filled: CollectionHandle, documents: list[dict[str, str]]
) -> None:
    for given in (options(documents), ApplyOptions()):
        with pytest.raises(GateFailed):
            apply(filled, asked("far"), given)
        assert not status(filled).vectors[0].asking
        assert rollback(filled).outcome == "abandoned"
    assert search(filled, [documents[5]["text"]])[0][0].id == "5"


def test_without_judgements_a_student_must_keep_nine_tenths(filled: CollectionHandle) -> None:
    with pytest.raises(GateFailed, match=r"at least 90% must be"):
        apply(filled, asked("blurred"), ApplyOptions(unmeasured=True))


def test_rolling_back_returns_to_the_own_encoder_and_forth_to_the_student(
    filled: CollectionHandle, documents: list[dict[str, str]]
) -> None:
    apply(filled, asked("near"), options(documents))
    rollback(filled)
    assert not status(filled).vectors[0].asking
    with pytest.warns(FollowWarning, match=r"slot 'dense': its encoder makes the queries until .*student near"):
        assert search(opened(filled, asked("near")), [documents[5]["text"]])[0][0].id == "5"
    assert MADE == ["big"]
    rollback(filled)
    assert "near" in status(filled).vectors[0].asking
    for other, got in ((config("big"), "no student"), (asked("near 2"), "student near 2")):
        with pytest.raises(CollectionError, match=rf"(?s)what makes the queries.*dense.*{got}.*student near"):
            opened(filled, other)
    assert finish(filled).dropped == ()
    assert "near" in status(filled).vectors[0].asking


def test_a_student_reads_queries_of_passages(
    registry: Registry, documents: list[dict[str, str]], tmp_path: Path
) -> None:
    passages = {"tokens": 16, "overlap": 0}
    handle = CollectionHandle(QdrantClient(":memory:"), "c", config("big", passages=passages), registry)
    populate(handle, documents)
    student = tmp_path / "near"
    student.mkdir()
    (student / "teacher.json").write_text(json.dumps({"documents": Big().fingerprint.documents}))
    apply(handle, asked(str(student), passages=passages), options(documents))
    assert search(opened(handle), [documents[5]["text"]])[0][0].id == "5"
    assert [str(student)] == MADE


def test_a_student_of_another_space_is_refused(filled: CollectionHandle, tmp_path: Path) -> None:
    with pytest.raises(SwapError, match=rf"(?s)query\.student.*{WIDTH // 2} dimensions.*{WIDTH} dimensions"):
        plan(filled, asked("narrow"))
    for broken in ("{", "{}", "[1]"):
        (tmp_path / "teacher.json").write_text(broken)
        with pytest.raises(SwapError, match=r"(?s)record of its teacher cannot be read.*teacher\.json"):
            plan(filled, asked(str(tmp_path)))
    (tmp_path / "teacher.json").write_text(json.dumps({"documents": "another encoder"}))
    with pytest.raises(SwapError, match=r"(?s)trained for another encoder.*recipe: student"):
        apply(filled, asked(str(tmp_path)))
    (tmp_path / "teacher.json").write_text(json.dumps({"documents": [f"encoder {n}" for n in range(5)]}))
    with pytest.raises(SwapError, match=r"trained for encoder 0 and 4 others\n"):
        plan(filled, asked(str(tmp_path)))
    assert filled.read().swap is None


def test_a_student_is_of_a_dense_slot_and_by_a_known_adapter(registry: Registry) -> None:
    from diptych.config import check_adapters

    wanted = config("big", query={"student": "near", "adapter": "bigger", "more": 1})
    with pytest.raises(ConfigError, match=r"(?s)'bigger'.*slots\.dense\.query\.adapter"):
        check_adapters(wanted, registry)
    with pytest.raises(ConfigError, match=r"(?s)more"):
        check_adapters(config("big", query={"student": "near", "more": 1}), registry)
    with pytest.raises(ConfigError, match=r"(?s)only dense vectors can have a student.*sparse"):
        check_adapters(config("bm25", query={"student": "near"}), Registry())
    with pytest.raises(ConfigError, match=r"student"):
        config("big", query={"adapter": "big"})


def test_encoders_of_a_config_let_the_student_make_the_queries(registry: Registry) -> None:
    """Without its store: `Encoders.open` once gave the encoder of the documents for both sides."""
    taught = Encoders.open(asked("blurred"), registry=registry)["dense"]
    alone = Encoders.open(config("big"), registry=registry)["dense"]
    texts = ["alpha beta", "gamma"]
    student = Big("blurred").encode_query(texts)
    assert np.allclose(np.stack(taught.encode_query(texts)), student)  # type: ignore[arg-type]
    assert not np.allclose(np.stack(alone.encode_query(texts)), student)  # type: ignore[arg-type]
    left, right = (np.stack(one.encode_document(texts)) for one in (taught, alone))  # type: ignore[arg-type]
    assert np.array_equal(left, right)
