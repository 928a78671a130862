"""Whether an inexact precision is worth anything here is measured, said, and decides what int8 has beside it."""

from __future__ import annotations

import warnings

import pytest

from diptych_adapters.engines import processor


@pytest.mark.parametrize("precision", processor.INEXACT)
def test_a_speed_is_measured_once_in_a_process(precision: str) -> None:
    found = processor.speed(precision)
    assert 0.001 < found < 1000
    assert processor.speed(precision) == found


def test_an_inexact_precision_that_costs_time_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "SLOWER", 1000.0)
    with pytest.warns(UserWarning, match=r"precision bfloat16 is slower than float32 on this processor: \d+\.\d times"):
        processor.warn_if_slower("bfloat16")


@pytest.mark.parametrize(("precision", "slower"), [("bfloat16", 0.0), ("float32", 1000.0), ("int8", 1000.0)])
def test_others_are_not(precision: str, slower: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "SLOWER", slower)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        processor.warn_if_slower(precision)
