"""/v1/embeddings and /v1/models, asked by OpenAI's own client."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest

from diptych import Collection, Registry
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from serving import animals, served

TEXTS = ["the cat sleeps", "an owl"]


@pytest.fixture
def api(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_openais_client_gets_the_slots_vectors_of_documents(api: openai.OpenAI, collection: Collection) -> None:
    answer = api.embeddings.create(model="dense", input=TEXTS, user="u-1")  # the client asks for base64 and unpacks it
    wanted = collection.encoders["dense"].encode_document(TEXTS)
    assert np.array_equal(np.array([row.embedding for row in answer.data], np.float32), np.stack(wanted))  # type: ignore[arg-type]
    assert [row.index for row in answer.data] == [0, 1]
    assert (answer.model, answer.usage.prompt_tokens, answer.usage.total_tokens) == ("dense", 5, 5)


def test_models_are_the_slots_that_can_be_asked_for_and_the_rerankers(api: openai.OpenAI) -> None:
    assert [model.id for model in api.models.list()] == ["fake-dense", "dense", "long", "fake-reranker"]
    assert api.models.retrieve("animals/dense").id == "dense"
    with pytest.raises(openai.NotFoundError, match=r"(?s)no model is called 'dens'.*did you mean 'dense'"):
        api.models.retrieve("dens")


def test_a_slot_of_a_matryoshka_model_gives_shorter_vectors(api: openai.OpenAI) -> None:
    whole = np.array(api.embeddings.create(model="long", input="cat").data[0].embedding)
    short = np.array(api.embeddings.create(model="long", input="cat", dimensions=16).data[0].embedding)
    assert np.allclose(short, whole[:16] / np.linalg.norm(whole[:16]), atol=1e-6)
    full = api.embeddings.create(model="long", input="cat", dimensions=64).data[0].embedding
    assert np.array_equal(full, whole)
    with pytest.raises(openai.BadRequestError, match=r"(?s)got: 8.*expected: 16 to 64"):
        api.embeddings.create(model="long", input="cat", dimensions=8)


def test_other_slots_say_that_they_do_not(api: openai.OpenAI) -> None:
    assert len(api.embeddings.create(model="dense", input="cat", dimensions=64).data[0].embedding) == 64
    with pytest.raises(openai.BadRequestError, match=r"(?s)does not give vectors of this length.*expected: 64"):
        api.embeddings.create(model="dense", input="cat", dimensions=16)


def test_requests_of_the_same_moment_are_encoded_together(tmp_path: Path, fakes: Registry) -> None:
    slow = {"dense": {"adapter": "fake-dense", "delay": 0.2}}
    collection = animals(tmp_path, fakes, slots=slow, search={})
    with served(application(Served([collection], registry=fakes))) as url, ThreadPoolExecutor(16) as pool:
        with httpx.Client(base_url=url, timeout=60) as client:

            def asked(number: int) -> list[float]:
                body = {"model": "dense", "input": f"cat {number}", "input_type": "query"}
                found: list[float] = client.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]
                return found

            vectors = list(pool.map(asked, range(16)))
        encoder = collection.encoders.slot("dense").encoder
        calls = [call for call in encoder.calls if any("cat 1" in text for text in call.inputs)]
    wanted = fakes.create("fake-dense").encode_query([f"cat {number}" for number in range(16)])  # type: ignore[union-attr]
    assert np.allclose(np.array(vectors), wanted, atol=1e-7)  # type: ignore[arg-type]
    assert max(len(call.inputs) for call in calls) > 1
