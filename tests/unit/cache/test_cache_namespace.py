"""What comes out of the cache is what went in, under the right name, and only what may be kept is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.metadata.models import Canaries, Generation
from diptych.protocols import Fingerprint
from diptych.slots.cache import EmbeddingCache, Namespace, pack, unpack
from diptych.slots.canaries import TEXTS
from diptych.slots.canaries import pack as pack_canary
from diptych.slots.encode import Vector, encode, is_finite
from diptych.testing import FakeDenseEncoder, FakeMultiVectorEncoder, FakeSparseEncoder
from diptych.types import Floats, SparseVector

MakeNamespace = Callable[..., Namespace]
MakeGeneration = Callable[..., Generation]
ENCODERS: dict[str, Callable[[], Any]] = {
    "dense": FakeDenseEncoder,
    "sparse": FakeSparseEncoder,
    "multivector": FakeMultiVectorEncoder,
}
CORPUS = [f"word{n % 7} word{n % 11} número{n} 東京 \udc80" for n in range(700)]
KEY = b"k" * 16


def documents_by(encoder: Any, kind: Any) -> Callable[[Sequence[str]], list[Vector]]:
    return lambda inputs: encode(encoder, kind, "document", inputs, where="here")


def bits(vector: Vector) -> tuple[object, ...]:
    if isinstance(vector, SparseVector):
        return (*bits(vector.values), vector.indices.dtype, vector.indices.tobytes())
    return vector.shape, vector.dtype, vector.tobytes()


@pytest.mark.parametrize("kind", ENCODERS)
def test_vectors_with_and_without_the_cache_are_equal_bit_for_bit(
    cache: EmbeddingCache, namespace: MakeNamespace, kind: str
) -> None:
    encoder, alone = ENCODERS[kind](), documents_by(ENCODERS[kind](), kind)
    space = namespace(cache, kind=kind)
    for _ in range(2):
        found = space.encode(CORPUS, documents_by(encoder, kind))
        assert [bits(vector) for vector in found] == [bits(vector) for vector in alone(CORPUS)]
    assert (space.hits, space.misses, encoder.encoded) == (700, 700, 700)
    assert cache.take_warnings() == []


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20))
def test_every_finite_number_survives(patterns: list[int]) -> None:
    numbers = np.array(patterns, np.uint32).view(np.float32)
    indices = np.unique(np.array(patterns, np.uint32))
    vectors: list[Vector] = [
        numbers,
        numbers.reshape(1, -1),
        np.asfortranarray(np.stack([numbers, numbers])),
        SparseVector(indices, numbers[: len(indices)]),
        SparseVector.from_mapping({}),
    ]
    for vector in vectors:
        packed = pack(KEY, vector)
        values = vector.values if isinstance(vector, SparseVector) else vector
        assert (packed is None) == (not np.isfinite(values).all())
        if packed is not None:
            found = unpack(KEY, packed)
            assert found is not None
            assert bits(found) == bits(vector)


@given(st.binary(max_size=60))
def test_bytes_that_nobody_packed_are_no_vector(raw: bytes) -> None:
    assert unpack(KEY, raw) is None


@settings(max_examples=50)
@given(st.integers(0, 8 * 409 - 1))
def test_a_flipped_bit_or_another_key_is_no_vector(flipped: int) -> None:
    packed = pack(KEY, np.linspace(0, 1, 100, dtype=np.float32))
    assert packed is not None
    assert len(packed) == 409
    damaged = bytearray(packed)
    damaged[flipped // 8] ^= 1 << flipped % 8
    assert unpack(KEY, bytes(damaged)) is None
    assert unpack(b"l" * 16, packed) is None


def test_a_vector_with_nan_or_of_doubles_is_handed_on_and_not_kept(
    cache: EmbeddingCache, namespace: MakeNamespace
) -> None:
    doubles = np.ones(3)
    assert namespace(cache).encode(["a"], lambda _: cast(Any, [doubles]))[0] is doubles
    assert cache.usage() == []
    encoder, space = FakeDenseEncoder(nan_word="bad"), namespace(cache)
    for _ in range(2):
        good, bad = space.encode(["good", "bad"], documents_by(encoder, "dense"))
        assert is_finite(good)
        assert not is_finite(bad)
    assert [call.inputs for call in encoder.calls] == [("good", "bad"), ("bad",)]


def test_of_a_call_that_fails_nothing_is_kept_and_nothing_counted(
    cache: EmbeddingCache, namespace: MakeNamespace
) -> None:
    space = namespace(cache)
    with pytest.raises(RuntimeError, match="call 1 fails"):
        space.encode(["a"], documents_by(FakeDenseEncoder(fail_on_call=1), "dense"))
    assert (space.hits, space.misses, cache.usage()) == (0, 0, [])


@pytest.mark.parametrize(
    "other",
    [{"space": "weights:2"}, {"numerics": "openvino int8"}, {"kind": "multivector"}, {"documents": "weights:1 title"}],
    ids=str,
)
def test_another_encoder_finds_nothing(cache: EmbeddingCache, namespace: MakeNamespace, other: Any) -> None:
    first, second = namespace(cache), namespace(cache, **other)
    first.encode(["a"], documents_by(FakeDenseEncoder(), "dense"))
    second.encode(["a"], documents_by(FakeDenseEncoder(), "dense"))
    assert (second.hits, second.misses) == (0, 1)


@pytest.mark.parametrize(
    "same",
    [{"number": 7, "vector": "v.7"}, {"adapter": "renamed"}, {"options": {"batch_size": 3}}, {"space": "asks anew"}],
    ids=str,
)
def test_what_does_not_change_vectors_of_documents_does_not_matter(
    cache: EmbeddingCache, namespace: MakeNamespace, same: Any
) -> None:
    facts = {"documents": "weights:1 no query prompt"}
    namespace(cache, **facts).encode(["a"], documents_by(FakeDenseEncoder(), "dense"))
    again = namespace(cache, **{**facts, **same})
    again.encode(["a"], documents_by(FakeDenseEncoder(), "dense"))
    assert (again.hits, again.misses) == (1, 0)


def test_encoders_with_corpus_statistics_and_text_indexes_are_not_kept(
    cache: EmbeddingCache, generation: MakeGeneration
) -> None:
    now = Fingerprint("weights:1")
    assert cache.namespace(generation(kind="sparse", statistics={"documents": 3.0}), now) is None
    assert cache.namespace(generation(kind="text_index"), now) is None
    assert cache.namespace(generation(kind="sparse"), now) is not None


MODELS = [({"space": "declared:1f"}, False), ({"space": "openai"}, True)]


def canaries_like(vectors: Floats, edition: int = 1) -> Canaries:
    return Canaries(edition=edition, query=["the same"], document=[pack_canary(vector) for vector in vectors])


@pytest.mark.parametrize(("facts", "changeable"), MODELS)
def test_a_model_that_changed_behind_its_name_is_told_by_its_canaries(
    cache: EmbeddingCache, generation: MakeGeneration, facts: Any, changeable: bool
) -> None:
    def opened(vectors: Floats | None, edition: int = 1) -> Namespace | None:
        said = generation(**facts, canaries=None if vectors is None else canaries_like(vectors, edition))
        return cache.namespace(said, said.fingerprint, changeable=changeable)

    one, another = (FakeDenseEncoder(seed=seed).encode_document(TEXTS[:6]) for seed in (1, 2))
    noise = np.random.default_rng(0).normal(scale=1e-4, size=one.shape).astype(np.float32)
    last_changed = np.vstack([one[:-1], another[-1:]])
    old, new, one_changed, again = opened(one), opened(another), opened(last_changed), opened(one + noise)
    assert old
    assert new
    assert one_changed
    assert again
    old.encode(["a"], documents_by(FakeDenseEncoder(seed=1), "dense"))
    (found,) = new.encode(["a"], documents_by(FakeDenseEncoder(seed=2), "dense"))
    assert bits(found) == bits(FakeDenseEncoder(seed=2).encode_document(["a"])[0])
    again.encode(["a"], refuse)
    assert (old.misses, new.misses, again.hits) == (1, 1, 1)
    assert len({old.digest, new.digest, one_changed.digest}) == 3
    other_texts = opened(one, edition=2)
    assert other_texts is not None
    assert other_texts.digest != old.digest
    assert opened(None) is None


def test_models_that_move_on_little_by_little_do_not_stay_one(
    cache: EmbeddingCache, generation: MakeGeneration
) -> None:
    first, goal = (FakeDenseEncoder(seed=seed).encode_document(TEXTS[:6]) for seed in (1, 2))
    digests = []
    for step in np.linspace(0, 0.2, 40, dtype=np.float32):
        said = generation(space="api", canaries=canaries_like((1 - step) * first + step * goal))
        found = cache.namespace(said, said.fingerprint, changeable=True)
        assert found is not None
        digests.append(found.digest)
    assert digests[0] == digests[1]
    assert 5 < len(set(digests)) < 40


def test_a_model_with_a_fingerprint_of_its_own_needs_no_canaries(
    cache: EmbeddingCache, generation: MakeGeneration
) -> None:
    now = Fingerprint("weights:1", "numpy")
    first = cache.namespace(generation(canaries=canaries_like(np.ones((2, 3), np.float32))), now)
    second = cache.namespace(generation(canaries=None), now, proven=False)
    assert first
    assert second
    assert first.digest == second.digest


def test_a_model_that_can_change_and_did_not_prove_itself_is_not_kept(
    cache: EmbeddingCache, generation: MakeGeneration
) -> None:
    said = generation(space="declared:1", canaries=canaries_like(np.ones((2, 3), np.float32)))
    assert cache.namespace(said, said.fingerprint, proven=False) is None
    assert cache.namespace(said, Fingerprint("declared:2"), proven=True) is None
    assert cache.namespace(said, said.fingerprint, proven=True) is not None


def test_what_is_held_is_told_by_space(cache: EmbeddingCache, namespace: MakeNamespace) -> None:
    namespace(cache).encode(CORPUS, documents_by(FakeDenseEncoder(dimension=512), "dense"))
    sparse = namespace(cache, kind="sparse", space="lexicon", numerics="")
    sparse.encode(CORPUS[:5], documents_by(FakeSparseEncoder(), "sparse"))
    held = [(usage.space, usage.entries) for usage in cache.usage()]
    assert held == [("fake: weights:1 (numpy)", 700), ("fake: lexicon", 5)]
    assert cache.usage()[0].size == 700 * (9 + 2048)
    assert cache.size() > 1_400_000
    cache.clear()
    assert cache.usage() == []
    assert cache.path.stat().st_size == cache.size() < 300_000
    again = namespace(cache)
    again.encode(["a"], lambda _: [np.ones(3, np.float32)])
    assert again.misses == 1


def refuse(_: Sequence[str]) -> list[Floats]:
    raise AssertionError("nothing is left to encode")
