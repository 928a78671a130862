"""The contract classes under a real pytest: on our fakes here, on a faulty encoder in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from diptych.testing import DenseEncoderContract, FakeDenseEncoder

SYNONYMS = {"feline": "cat", "nutrition": "food"}
DIRECTED = ("cat food", "feline nutrition", "food blender for soup and bread")


class TestDense(DenseEncoderContract):
    triples = (*DenseEncoderContract.triples, DIRECTED)

    @pytest.fixture(scope="class")
    @classmethod
    def encoder(cls) -> FakeDenseEncoder:
        return FakeDenseEncoder(expand=SYNONYMS)

    @pytest.fixture(scope="class")
    @classmethod
    def sibling(cls) -> FakeDenseEncoder:
        return FakeDenseEncoder(expand=SYNONYMS, query_prompt="query:")


FAULTY = """
import numpy as np, pytest
from diptych.testing import DenseEncoderContract, FakeDenseEncoder, RerankerContract

class Backwards(FakeDenseEncoder):
    def encode_document(self, inputs):
        return super().encode_document(inputs)[::-1]

class TestBackwards(DenseEncoderContract):
    @pytest.fixture(scope="class")
    @classmethod
    def encoder(cls):
        return Backwards(query_prompt="query:")

class TestForgotten(RerankerContract):
    pass

class TestWide(DenseEncoderContract):
    batch_tolerance = 10.0

    @pytest.fixture
    def encoder(self):
        class Noisy(FakeDenseEncoder):
            def encode_query(self, inputs):
                return super().encode_query(inputs) * np.float32(1 + len(inputs))
        encoder = Noisy(normalized=False)
        del encoder.asymmetric
        return encoder
"""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest prints about the faulty encoders, from a process without our configuration."""
    folder: Path = tmp_path_factory.mktemp("outside")
    (folder / "test_faulty.py").write_text(FAULTY)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", "-rfsE", "--rootdir", str(folder), "."]
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True, check=False).stdout


def test_a_faulty_encoder_fails_the_test_that_is_named_for_its_fault(outcome: str) -> None:
    assert re.search(r"TestBackwards::test_contract\[order\] FAILED", outcome)
    assert re.search(r"TestBackwards::test_contract\[dimension\] PASSED", outcome)
    assert "got: [5, 4, 3, 2, 1, 0]" in outcome


def test_a_fixture_that_is_not_overridden_is_named(outcome: str) -> None:
    assert "TestForgotten must override the fixture `reranker`" in outcome


def test_tolerances_are_class_attributes(outcome: str) -> None:
    assert re.search(r"TestWide::test_contract\[batch_independent\] PASSED", outcome)


def test_what_cannot_be_tested_is_skipped_with_its_reason(outcome: str) -> None:
    assert "it does not say whether it is `asymmetric`" in outcome
    assert "no `known` vectors" in outcome


def test_the_fakes_work_without_pytest() -> None:
    code = "import sys, diptych.testing as t; t.FakeDenseEncoder(); print('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
