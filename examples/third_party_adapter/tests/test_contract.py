from __future__ import annotations

import pytest
from diptych_example_wordhash.encoder import WordHash

import diptych
from diptych.testing import DenseEncoderContract


class TestWordHash(DenseEncoderContract):
    @pytest.fixture
    def encoder(self) -> WordHash:
        return WordHash()


def test_an_installed_package_brings_its_adapter() -> None:
    adapter = diptych.Registry().create("wordhash", {"dimension": 64})
    assert adapter.encode_query(["audio files"]).shape == (1, 64)
