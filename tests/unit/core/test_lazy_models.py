"""qdrant-client's models are the same when pydantic builds them at their first use, and threads may use them first."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCHEMAS = """
import hashlib, inspect, json
from qdrant_client import models
made = {name: kind.model_json_schema() for name, kind in vars(models).items()
        if inspect.isclass(kind) and issubclass(kind, models.BaseModel) and kind is not models.BaseModel}
print(len(made), hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest())
"""
THREADS = """
import diptych.stores, threading
from qdrant_client import models
from pydantic import ValidationError
failed, ready = [], threading.Barrier(8)
def use():
    ready.wait()
    try:
        found = models.Filter.model_validate({"must": [{"key": "a", "match": {"value": 1}}]})
        assert found.must[0].match.value == 1
        prefetch = models.Prefetch(query=[0.5], filter=found)
        models.QueryRequest(prefetch=prefetch, query=models.RrfQuery(rrf=models.Rrf(k=3)))
        models.PointStruct(id=1, vector={"a": [0.5]}, payload={"b": 1}).model_dump_json()
        try:
            models.Filter.model_validate({"never": 1})
            raise AssertionError("an unknown key passed")
        except ValidationError:
            pass
    except BaseException as error:
        failed.append(repr(error))
threads = [threading.Thread(target=use) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(failed)
"""
BUILT = """
import diptych.stores
from qdrant_client import models
models.Filter(must=[])
print(models.Filter.__pydantic_complete__, models.SnapshotDescription.__pydantic_complete__)
"""


def answer(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_deferred_models_have_the_schemas_of_those_built_at_once() -> None:
    assert answer("import diptych.stores" + SCHEMAS) == answer(SCHEMAS)


def test_threads_that_use_a_model_first_at_once_all_get_it() -> None:
    for _ in range(3):
        assert answer(THREADS) == "[]"


def test_only_models_that_are_used_are_built() -> None:
    assert answer(BUILT) == "True False"
