from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from diptych import Registry
from diptych.testing import (
    Call,
    FakeCalibratedEncoder,
    FakeDenseEncoder,
    FakeFailure,
    fakes_plugin,
)

TEXTS = ["convert audio files", "a converter of audio and video files", "mount an encrypted disk"]


def test_another_process_gets_the_same_vectors() -> None:
    code = "import diptych.testing as t; print(t.FakeDenseEncoder().encode_query(['a b']).tolist())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert np.array_equal(np.array(json.loads(other), np.float32), FakeDenseEncoder().encode_query(["a b"]))


def test_another_seed_is_another_space_of_the_same_dimension() -> None:
    one, other = FakeDenseEncoder(seed=1), FakeDenseEncoder(seed=2)
    assert one.fingerprint != other.fingerprint
    assert abs(float(one.encode_query(["audio"])[0] @ other.encode_query(["audio"])[0])) < 0.5


def test_a_calibrated_fake_refuses_documents_before_calibration_and_weighs_them_after() -> None:
    encoder = FakeCalibratedEncoder()
    with pytest.raises(RuntimeError, match="before calibrate"):
        encoder.encode_document(TEXTS)
    encoder.calibrate(encoder.measure(["one two", "one two three four"]))
    (vector,) = encoder.encode_document(["one two three"])
    assert vector.values.tolist() == [0.5, 0.5, 0.5]


def test_calls_are_recorded_and_the_nth_fails_when_told_to(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    encoder = FakeDenseEncoder(fail_on_call=2, log=str(log))
    encoder.encode_query(["a"])
    with pytest.raises(FakeFailure, match="call 2 fails"):
        encoder.encode_document(["b", "c"])
    encoder.encode_document(["b", "c"])
    assert encoder.calls == [Call("query", ("a",)), Call("document", ("b", "c")), Call("document", ("b", "c"))]
    assert (encoder.count, encoder.encoded) == (3, 3)
    assert [json.loads(line)["inputs"] for line in log.read_text().splitlines()] == [["a"], ["b", "c"]]


def test_without_record_only_counts_are_kept() -> None:
    encoder = FakeDenseEncoder(record=False)
    encoder.encode_document(TEXTS)
    assert (encoder.calls, encoder.count, encoder.encoded) == ([], 1, 3)


def test_texts_with_the_nan_word_get_nan_and_others_do_not() -> None:
    vectors = FakeDenseEncoder(nan_word="poison").encode_document(["a poison pill", "a pill"])
    assert np.isnan(vectors).all(axis=1).tolist() == [True, False]


def test_the_fakes_plugin_makes_every_fake_with_options() -> None:
    registry = Registry(fakes_plugin, installed=False)
    assert [spec.name for spec in registry.specs()] == [
        "fake-dense", "fake-multivector", "fake-reranker", "fake-calibrated", "fake-sparse",
    ]  # fmt: skip
    encoder = registry.create("fake-dense", {"dimension": 12, "seed": 3})
    assert isinstance(encoder, FakeDenseEncoder)
    assert encoder.encode_query(["x"]).shape == (1, 12)
    for name in ("fake-sparse", "fake-calibrated", "fake-multivector", "fake-reranker"):
        assert registry.create(name, {"delay": 0.0}) is not None
