"""scikit-learn: an encoder as a step of a pipeline, and scikit-learn's own checks as far as they are about texts."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from diptych import Registry
from diptych.config import parse_config
from diptych.encoders import Encoders
from diptych.errors import AdapterOptionsError, DocumentError, UnknownAdapter

sklearn = pytest.importorskip("sklearn")
from sklearn.base import clone  # noqa: E402
from sklearn.compose import ColumnTransformer  # noqa: E402
from sklearn.exceptions import NotFittedError, SkipTestWarning  # noqa: E402
from sklearn.linear_model import RidgeClassifier  # noqa: E402
from sklearn.model_selection import GridSearchCV  # noqa: E402
from sklearn.pipeline import make_pipeline, make_union  # noqa: E402
from sklearn.utils import estimator_checks  # noqa: E402

from diptych_adapters.sklearn import EncoderVectorizer  # noqa: E402

TEXTS = [
    "edit sound and audio",
    "record audio",
    "retouch photographs",
    "paint pictures",
    "mix audio tracks",
    "draw pictures",
]
KINDS = [1, 1, 0, 0, 1, 0]


@pytest.fixture
def encoders(fakes: Registry) -> Encoders:
    slots = {"dense": {"adapter": "fake-dense"}, "words": {"adapter": "fake-sparse"}}
    config = {"store": "memory:", "collection": "x", "slots": slots, "search": {"retrieve": {"dense": 1}}}
    return Encoders.open(parse_config(config), registry=fakes)


def test_a_dense_encoder_gives_its_vectors(encoders: Encoders) -> None:
    vectorizer = EncoderVectorizer("dense", source=encoders)
    found = vectorizer.fit_transform(TEXTS)
    wanted: Any = encoders["dense"].encode_document(TEXTS)
    assert np.array_equal(found, wanted)
    assert (found.dtype, vectorizer.n_features_out_) == (np.float32, 64)
    assert list(vectorizer.get_feature_names_out()[:2]) == ["dense_0", "dense_1"]
    asked = EncoderVectorizer("dense", source=encoders, side="query").fit(TEXTS).transform(TEXTS[:1])
    wanted = encoders["dense"].encode_query(TEXTS[:1])
    assert np.array_equal(asked, wanted)
    assert vectorizer.transform([]).shape == (0, 64)


def test_a_sparse_encoder_gives_the_terms_of_the_fitted_texts(encoders: Encoders) -> None:
    vectorizer = EncoderVectorizer("words", source=encoders).fit(TEXTS[:2])
    found = vectorizer.transform([*TEXTS[:2], "audio elsewhere", "nothing"])
    assert (found.format, found.shape) == ("csr", (4, 5))  # edit, sound, and, audio, record
    for row, vector in zip(found[:2].toarray(), encoders["words"].encode_document(TEXTS[:2]), strict=True):
        assert {t: w for t, w in zip(vectorizer.terms_, row, strict=True) if w} == dict(
            zip(vector.indices, vector.values, strict=True)  # type: ignore[union-attr]
        )
    assert found[2].nnz == 1
    assert found[3].nnz == 0
    assert list(vectorizer.get_feature_names_out()) == [f"words_{term}" for term in vectorizer.terms_]
    together = EncoderVectorizer("words", source=encoders).fit_transform(TEXTS[:2])
    assert (together != found[:2]).nnz == 0


def test_it_stands_in_a_pipeline_and_a_grid(encoders: Encoders) -> None:
    both = make_union(EncoderVectorizer("dense", source=encoders), EncoderVectorizer("words", source=encoders))
    pipeline = make_pipeline(both, RidgeClassifier(alpha=0.01))
    assert list(pipeline.fit(TEXTS, KINDS).predict(TEXTS)) == KINDS
    one = make_pipeline(EncoderVectorizer("dense", source=encoders), RidgeClassifier())
    search = GridSearchCV(one, {"encodervectorizer__encoder": ["dense", "words"]}, cv=2).fit(TEXTS, KINDS)
    assert search.best_params_["encodervectorizer__encoder"] in ("dense", "words")


def test_a_column_of_a_data_frame_becomes_columns_of_one(encoders: Encoders) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": TEXTS, "year": range(6)})
    step = EncoderVectorizer("dense", source=encoders)
    columns = ColumnTransformer([("vectors", step, "text")], remainder="passthrough").set_output(transform="pandas")
    found = columns.fit_transform(frame)
    assert list(found.columns[[0, 63, 64]]) == ["vectors__dense_0", "vectors__dense_63", "remainder__year"]
    with pytest.raises(DocumentError, match=r"(?s)not a list of texts.*got: DataFrame\[6, 1\].*'text'"):
        step.fit(frame[["text"]])


def test_clones_share_encoders_and_are_not_fitted(encoders: Encoders) -> None:
    fitted = EncoderVectorizer("words", source=encoders, options={}).fit(TEXTS)
    cloned = clone(fitted)
    assert cloned.get_params() == fitted.get_params()
    assert cloned.source is encoders
    with pytest.raises(NotFittedError):
        cloned.transform(TEXTS)
    with pytest.raises(NotFittedError):
        cloned.get_feature_names_out()


def test_another_process_loads_the_encoder_again() -> None:
    fitted = EncoderVectorizer("bm25", options={"average_length": 3}).fit(TEXTS)
    copied = pickle.loads(pickle.dumps(fitted))  # as joblib sends it
    assert not hasattr(copied, "_opened")
    assert (copied.transform(TEXTS) != fitted.transform(TEXTS)).nnz == 0


def test_what_does_not_fit_is_told(encoders: Encoders) -> None:
    with pytest.raises(DocumentError, match=r"(?s)not a list of texts.*got: str"):
        EncoderVectorizer("dense", source=encoders).fit("one text")
    with pytest.raises(DocumentError, match=r"(?s)not a text.*row 1.*got: float"):
        EncoderVectorizer("dense", source=encoders).fit(["one", float("nan")])  # type: ignore[list-item]
    with pytest.raises(UnknownAdapter, match="did you mean 'dense'"):
        EncoderVectorizer("dence", source=encoders).fit(TEXTS)
    with pytest.raises(
        AdapterOptionsError, match=r"(?s)several vectors per text.*'fake-multivector', which makes a vector for"
    ):
        EncoderVectorizer("fake-multivector", source=encoders).fit(TEXTS)


# Those that feed no numbers. `check_estimator` itself has none for what takes no two-dimensional array, and says so.
CHECKS = [
    "check_estimator_cloneable",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_mixin_order",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
]


@pytest.mark.parametrize("check", CHECKS)
def test_checks_of_scikit_learn_that_are_not_about_numbers_pass(check: str) -> None:
    made = EncoderVectorizer("bm25", options={"average_length": 3})
    getattr(estimator_checks, check)("EncoderVectorizer", made)


def test_check_estimator_says_that_it_has_no_checks_for_texts() -> None:
    with pytest.warns(SkipTestWarning, match="requires input"):
        estimator_checks.check_estimator(EncoderVectorizer("bm25", options={"average_length": 3}))
