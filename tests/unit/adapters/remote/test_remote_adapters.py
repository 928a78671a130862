from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from diptych.errors import AdapterOptionsError, ConfigError
from diptych.registry import Registry
from diptych.types import SparseVector
from diptych_adapters import hooks
from diptych_adapters.remote.adapters import ApiReranker, OpenAIEncoder
from diptych_adapters.specs import SPECS

if TYPE_CHECKING:
    from tests.unit.adapters.remote.conftest import Reply, Service

TEXTS = [f"text number {n}" for n in range(11)]
FAST: dict[str, Any] = {"backoff": 0.001, "retries": 1, "batch_size": 4}
PATIENT: dict[str, dict[str, Any]] = {
    "openai": {"api": "openai", "base_url": "/v1", "model": "m"},
    "tei": {"api": "tei", "base_url": ""},
    "tei-sparse": {"base_url": ""},
    "tei-reranker": {"api": "tei", "base_url": ""},
    "rerank-api": {"api": "cohere", "base_url": "/v1", "model": "m"},
}
NAMES = {"openai": "remote", "tei": "remote", "tei-reranker": "remote-reranker", "rerank-api": "remote-reranker"}


def create(name: str, service: Service, **options: Any) -> Any:
    given = PATIENT[name] | FAST | options
    given["base_url"] = service.url + given["base_url"]
    return Registry(hooks, installed=False).create(NAMES.get(name, name), given)


Vectors = Callable[[str], list[float]]
Score = Callable[[str, str], float]


def test_each_adapter_is_marked_as_remote() -> None:
    remote = {spec.name for spec in SPECS if spec.remote and spec.extra == "diptych[remote]"}
    assert remote == {"remote", "tei-sparse", "remote-reranker", "yes-no-api"}


@pytest.mark.parametrize("name", ["openai", "tei"])
def test_dense_vectors_come_in_the_order_of_the_texts(service: Service, vector_of: Vectors, name: str) -> None:
    encoder = create(name, service)
    found = encoder.encode_document(TEXTS)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array([vector_of(text) for text in TEXTS], np.float32))
    np.testing.assert_array_equal(encoder.encode_query(TEXTS[:1]), found[:1])
    sizes = [len(seen.body.get("input", seen.body.get("inputs", []))) for seen in service.seen if seen.body]
    assert sorted(sizes) == [1, 1, 3, 4, 4]


def test_no_inputs_make_no_request(service: Service) -> None:
    for name in ("openai", "tei"):
        assert create(name, service, dimension=8).encode_query([]).shape == (0, 8)
    for name in ("tei-reranker", "rerank-api"):
        assert create(name, service).predict([]).shape == (0,)
    assert service.seen == []


def test_the_dimension_is_declared_or_measured_once(service: Service) -> None:
    assert create("openai", service, dimension=8).dimension == 8
    assert create("openai", service, dimensions=4).dimension == 4
    assert service.seen == []
    measured = create("tei", service)
    assert (measured.dimension, measured.dimension) == (8, 8)
    assert len(service.seen) == 1


def test_openai_sends_the_model_and_asks_for_shorter_vectors(service: Service) -> None:
    found = create("openai", service, dimensions=4).encode_query(["a"])
    assert found.shape == (1, 4)
    assert service.seen[0].body == {"model": "m", "input": ["a"], "dimensions": 4}


def test_base64_gives_the_same_vectors(service: Service) -> None:
    plain, packed = create("openai", service), create("openai", service, encoding_format="base64")
    np.testing.assert_array_equal(plain.encode_document(TEXTS), packed.encode_document(TEXTS))


def test_prompts_fields_and_cuts_reach_the_server(service: Service) -> None:
    encoder = create(
        "tei",
        service,
        dimension=8,
        query_prompt="query: ",
        document_prompt="passage: ",
        query_fields={"prompt_name": "query"},
        max_characters=5,
        truncation_direction="left",
    )
    encoder.encode_query(["abcdefgh"])
    encoder.encode_document(["", "ab"])
    fixed = {"normalize": True, "truncate": True, "truncation_direction": "Left"}
    assert service.seen[0].body == {"inputs": ["query: abcde"], "prompt_name": "query", **fixed}
    assert service.seen[1].body == {"inputs": ["passage: ", "passage: ab"], **fixed}


def test_an_empty_text_is_sent_as_a_blank_because_servers_refuse_it(service: Service) -> None:
    create("openai", service, dimension=8).encode_document(["", "a"])
    assert service.seen[0].body["input"] == [" ", "a"]


def test_a_null_in_a_vector_becomes_nan_in_its_row_alone(service: Service, reply: type[Reply]) -> None:
    service.replies = [reply(change=lambda answer: [[None, *answer[0][1:]], *answer[1:]])]
    found = create("tei", service, dimension=8).encode_document(TEXTS[:3])
    assert np.isnan(found).any(axis=1).tolist() == [True, False, False]


def test_many_batches_under_failures_come_out_right(service: Service, reply: type[Reply], vector_of: Vectors) -> None:
    texts = [f"text {n}" for n in range(200)]
    service.replies = [reply(status=503, body=b""), reply(delay=0.1), reply(hang_up=True), reply(delay=0.05)] * 4
    encoder = create("openai", service, dimension=8, max_concurrency=8, retries=20)
    np.testing.assert_array_equal(
        encoder.encode_document(texts), np.array([vector_of(text) for text in texts], np.float32)
    )


def test_sparse_vectors_are_sorted_by_term(service: Service) -> None:
    encoder = create("tei-sparse", service)
    found = encoder.encode_document(["audio files", "...", "an editor"] * 3)
    first = SparseVector.from_mapping({1: 2.0, 2: 3.0})
    assert found == [first, SparseVector.from_mapping({}), SparseVector.from_mapping({3: 4.0})] * 3
    assert encoder.encode_query(["audio files"]) == [first]


def test_sparse_terms_are_named_by_the_servers_tokenizer_and_asked_for_once(service: Service) -> None:
    encoder = create("tei-sparse", service)
    vector = SparseVector.from_mapping({0: 0.5, 1: 2.0, 3: 1.0})
    assert encoder.decode(vector) == [("audio", 2.0), ("editor", 1.0), ("convert", 0.5)]
    assert encoder.decode(vector, 1) == [("audio", 2.0)]
    assert len(service.seen) == 1


def test_sparse_terms_are_numbers_when_the_server_names_none(service: Service, reply: type[Reply]) -> None:
    service.replies = [reply(status=404, body=b"no such route")]
    assert create("tei-sparse", service).decode(SparseVector.from_mapping({3: 1.0})) == [("#3", 1.0)]


PAIRS = [(query, f"document {n}") for n in range(7) for query in ("first", "second", "third")]


@pytest.mark.parametrize("name", ["tei-reranker", "rerank-api"])
def test_scores_come_in_the_order_of_the_pairs_whatever_the_server_sorts(
    service: Service, score_of: Score, name: str
) -> None:
    scores = create(name, service).predict(PAIRS)
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, np.array([score_of(*pair) for pair in PAIRS], np.float32))
    assert len(set(scores.tolist())) == len(PAIRS)
    assert len(service.seen) == 6


def test_what_rerankers_send(service: Service) -> None:
    create("tei-reranker", service, raw_scores=True, truncate=False).predict([("q", "d")])
    create("rerank-api", service, fields={"return_documents": False}).predict([("q", "d")])
    assert service.seen[0].body == {
        "query": "q", "texts": ["d"], "raw_scores": True, "truncate": False, "truncation_direction": "Right",
    }  # fmt: skip
    assert service.seen[1].body == {
        "model": "m", "query": "q", "documents": ["d"], "top_n": 1, "return_documents": False,
    }  # fmt: skip


def test_the_space_of_an_openai_model_is_its_name_and_what_is_sent() -> None:
    def space(**options: Any) -> str:
        return OpenAIEncoder(**({"base_url": "http://a/v1", "model": "m"} | options)).fingerprint.space

    changes: list[dict[str, Any]] = [
        {"model": "n"},
        {"dimensions": 4},
        {"query_prompt": "q"},
        {"document_prompt": "q"},
        {"query_fields": {"a": 1}},
        {"max_characters": 9},
    ]
    assert len({space(**change) for change in changes} | {space()}) == len(changes) + 1
    assert space() == space(base_url="http://b/v1", batch_size=1, encoding_format="base64", timeout=1)


def test_the_space_of_a_tei_model_is_what_the_server_says_it_serves(service: Service, reply: type[Reply]) -> None:
    plain = create("tei", service, dimension=8).fingerprint
    assert plain.numerics == "float16"
    service.replies = [reply(change=lambda info: info | {"model_sha": "def"})]
    assert create("tei", service, dimension=8).fingerprint.space != plain.space
    service.replies = [reply(change=lambda info: info | {"model_dtype": "float32"})]
    assert create("tei", service, dimension=8).fingerprint.space == plain.space
    assert create("tei", service, dimension=8, normalize=False).fingerprint.space != plain.space
    assert create("tei-sparse", service).fingerprint.space != plain.space


def test_the_space_of_a_reranker_is_the_model_and_what_is_sent(service: Service, reply: type[Reply]) -> None:
    def space(name: str, **options: Any) -> str:
        found: str = create(name, service, **options).fingerprint.space
        return found

    changes: dict[str, list[dict[str, Any]]] = {
        "tei-reranker": [{"raw_scores": True}, {"truncation_direction": "left"}, {"max_characters": 9}],
        "rerank-api": [{"model": "n"}, {"fields": {"a": 1}}, {"max_characters": 9}],
    }
    for name, changed in changes.items():
        assert len({space(name, **change) for change in changed} | {space(name)}) == len(changed) + 1
        assert space(name) == space(name, batch_size=1, timeout=1, api_key_env="HOME")
    plain = space("tei-reranker")
    service.replies = [reply(change=lambda info: info | {"model_sha": "def"})]
    assert space("tei-reranker") != plain


def test_the_space_of_a_server_without_info_is_its_address(
    service: Service, other_service: Service, reply: type[Reply]
) -> None:
    absent = reply(status=404, body=b"")
    service.replies, other_service.replies = [absent, absent], [absent]
    first, again, other = (create("tei", each, dimension=8).fingerprint for each in (service, service, other_service))
    assert first == again
    assert first != other


def test_openai_itself_is_asked_with_its_usual_key_and_no_other_host_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="variable OPENAI_API_KEY is not set"):
        OpenAIEncoder(model="text-embedding-3-small")
    assert OpenAIEncoder(model="m", base_url="http://localhost/v1").options.api_key_env is None


def test_a_path_with_a_query_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="option 'path'") as caught:
        ApiReranker(base_url="http://localhost", model="m", path="/rerank?key=sk-secret")
    assert "sk-secret" not in str(caught.value)


def test_the_specs_import_nothing_that_talks_to_servers() -> None:
    code = (
        "import sys, diptych_adapters.specs, diptych_adapters.remote.options;"
        "print(sorted({'httpx', 'requests', 'torch', 'tenacity', 'qdrant_client'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["openai", "tei", "tei-sparse"])
def test_what_concerns_queries_alone_leaves_the_documents_of_a_fingerprint(service: Service, name: str) -> None:
    plain = create(name, service).fingerprint
    asked = create(name, service, query_prompt="query: ", query_fields={"input_type": "query"}).fingerprint
    told = create(name, service, document_prompt="passage: ").fingerprint
    cut = create(name, service, max_characters=99).fingerprint
    assert plain.documents
    assert (asked.documents == plain.documents, asked.space == plain.space) == (True, False)
    assert len({plain.documents, told.documents, cut.documents, plain.space, told.space}) == 5


BEFORE = {  # fingerprints that the adapters had under their old names, in 0.4.0
    "openai": ("2904ad185b99df09e9766dc15f4452f6", "48097c38d43490dfbeb6da6760ab6d71"),
    "cohere": ("ef322d79036978fba094e23f257fe36b", "cda52c26e662615371103edd31b54659"),
    "rerank-api": ("5b176f63da8cbdca90a299da26f5ca8d", ""),
}


@pytest.mark.parametrize("old", BEFORE)
def test_an_old_name_and_the_new_one_have_the_fingerprint_of_before(old: str) -> None:
    registry = Registry(hooks, installed=False)
    dimension = {} if old == "rerank-api" else {"dimension": 8}
    options = {"base_url": "http://127.0.0.1:9/v1", "model": "m", **dimension}
    with pytest.warns(FutureWarning, match=f"adapter '{old}' is called 'remote"):
        first: Any = registry.create(old, options)
    name, renamed = registry.spellings(old, options)[0]
    assert registry.spellings(name, renamed) == [(name, renamed), (old, options)]
    again: Any = registry.create(name, renamed)
    assert [(e.fingerprint.space, e.fingerprint.documents) for e in (first, again)] == [BEFORE[old]] * 2


OPENAI: dict[str, Any] = {"api": "openai", "model": "m"}
TEI: dict[str, Any] = {"api": "tei", "base_url": "http://a"}
WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("remote", {**OPENAI, "api_key": "sk-secret"}, "no option 'api_key'"),
    ("remote", {**OPENAI, "batch_size": 0}, "at least 1"),
    ("remote", {**OPENAI, "encoding_format": "int8"}, "'float' or 'base64'"),
    ("remote", {**OPENAI, "api": "cohere", "batch_size": 97}, "96"),
    ("remote", {"api": "openai"}, "needs the option 'model'"),
    ("remote", {"api": "tei"}, "needs the option 'base_url'"),
    ("remote", {"model": "m"}, "needs the option 'api'"),
    ("remote", {**TEI, "model": "m"}, "no option 'model'"),
    ("remote", {**TEI, "truncate": "END"}, "expected: true or false"),
    ("remote", {**TEI, "truncation_direction": "up"}, "'right' or 'left'"),
    ("remote-reranker", {"api": "cohere", "base_url": "http://a", "model": "m", "path": "rerank"}, "option 'path'"),
]


@pytest.mark.parametrize(("adapter", "options", "match"), WRONG)
def test_wrong_options_are_refused_without_their_secrets(adapter: str, options: dict[str, Any], match: str) -> None:
    with pytest.raises(AdapterOptionsError, match=match) as caught:
        Registry(hooks, installed=False).create(adapter, options)
    assert "sk-secret" not in str(caught.value)
