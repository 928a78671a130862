"""One vector of two heads: its inner product is the sum of two cosines, and new documents have the first alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")

from safetensors.numpy import load_file, save_file

from diptych.protocols import DenseEncoder, TokenLimit
from diptych.testing import DenseEncoderContract
from diptych.testing.checks import Conditions
from diptych.testing.checks.encoders import check_token_limit
from diptych_adapters.models import ModelError
from diptych_adapters.sentence_transformers import SentenceTransformerEncoder
from diptych_experimental.unidec_encoder import UniDECEncoder

TEXTS = ["audio files", "play music", "video", "sound tool"]
NEW = ["video format", ""]


def written(base: Path, place: Path) -> Path:
    """An untrained model of both heads over that of a folder."""
    from sentence_transformers import SentenceTransformer

    from diptych_experimental.unidec import export_heads, with_classifier

    export_heads(with_classifier(SentenceTransformer(str(base), device="cpu"), 4, classifier_dimension=6), TEXTS, place)
    return place


@pytest.fixture(scope="module")
def folder(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tiny("mean"), tmp_path_factory.mktemp("unidec") / "run")


def made(folder: Path, **options: Any) -> UniDECEncoder:
    return UniDECEncoder.of(model=str(folder), device="cpu", **options)


def test_the_inner_product_is_the_sum_of_the_cosines_of_both_heads(folder: Path) -> None:
    joint, classifier = made(folder), made(folder, head="classifier")
    dense = SentenceTransformerEncoder.of(model=str(folder), device="cpu")
    assert isinstance(joint, DenseEncoder)
    assert (joint.dimension, classifier.dimension, dense.dimension) == (22, 6, 16)
    assert joint.similarity == classifier.similarity == "dot"
    queries = ["convert audio", "play"]
    parts = [one.encode_query(queries) @ one.encode_document(TEXTS).T for one in (dense, classifier)]
    np.testing.assert_allclose(joint.encode_query(queries) @ joint.encode_document(TEXTS).T, sum(parts), atol=1e-5)
    assert abs(parts[1]).max() <= 1 + 1e-5


def test_the_dual_encoder_says_how_much_of_a_document_it_reads(folder: Path) -> None:
    joint = made(folder)
    assert isinstance(joint, TokenLimit)
    assert (joint.max_tokens, made(folder, head="classifier").max_tokens) == (62, None)
    texts = ("audio convert files format package", "music play sound tool video", "files play")
    check_token_limit(joint, Conditions(kind="dense", texts=texts))


def test_new_documents_are_compared_by_the_dual_encoder_alone(folder: Path) -> None:
    joint, dense = made(folder), SentenceTransformerEncoder.of(model=str(folder), device="cpu")
    found = joint.encode_document(NEW)
    np.testing.assert_allclose(found[:, :16], dense.encode_document(NEW), atol=1e-5)
    assert not found[:, 16:].any()
    assert not made(folder, head="classifier").encode_document(NEW).any()
    assert joint.encode_document(TEXTS)[:, 16:].any(1).all()


def test_the_librarys_own_path_answers_the_same(folder: Path) -> None:
    joint = made(folder)
    assert joint.runner is not None
    by_runner = joint.encode_query(TEXTS), joint.encode_document(TEXTS)
    joint.runner = None
    for ours, theirs in zip(by_runner, (joint.encode_query(TEXTS), joint.encode_document(TEXTS)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_other_free_vectors_are_another_space(folder: Path, tmp_path: Path) -> None:
    import shutil

    other = shutil.copytree(folder, tmp_path / "other")
    [file] = (other / "labels").rglob("model.safetensors")
    save_file({name: -value for name, value in load_file(file).items()}, file)
    spaces = {made(one, head=head).fingerprint.space for one in (folder, other) for head in ("joint", "classifier")}
    assert len(spaces) == 4
    assert made(folder).fingerprint.space == made(folder).fingerprint.space


def test_a_model_without_classifier_is_sent_to_its_adapter(tiny: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match=r"(?s)has no classifier.*no folder labels/.*adapter: sentence-transformers"):
        made(tiny("mean"))


class TestJointOfMiniLM(DenseEncoderContract):
    @pytest.fixture(scope="class")
    @classmethod
    def run(cls, minilm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return written(minilm_folder, tmp_path_factory.mktemp("minilm") / "run")

    @pytest.fixture(scope="class")
    @classmethod
    def encoder(cls, run: Path) -> UniDECEncoder:
        return made(run)

    @pytest.fixture(scope="class")
    @classmethod
    def sibling(cls, run: Path) -> UniDECEncoder:
        return made(run, query_prompt="query: ")
