"""The files of a new adapter package: a placeholder encoder of hashed words that passes the conformance kit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import Template

KINDS = ("dense", "sparse", "multivector", "reranker")
_CONTRACTS = {
    "dense": ("DenseEncoderContract", "encoder"),
    "sparse": ("SparseEncoderContract", "encoder"),
    "multivector": ("MultiVectorEncoderContract", "encoder"),
    "reranker": ("RerankerContract", "reranker"),
}


@dataclass(frozen=True, slots=True)
class NewAdapter:
    """A package to be written: the adapter's name, such as `word-hash`, and its kind."""

    name: str
    kind: str

    @property
    def module(self) -> str:
        """The Python package."""
        return f"diptych_{self.name.replace('-', '_')}"

    @property
    def class_name(self) -> str:
        """The adapter's class."""
        return "".join(part.capitalize() for part in self.name.split("-"))

    def files(self) -> dict[str, str]:
        """Contents by path."""
        contract, fixture = _CONTRACTS[self.kind]
        words = {
            "name": self.name,
            "kind": self.kind,
            "module": self.module,
            "cls": self.class_name,
            "contract": contract,
            "fixture": fixture,
        }
        source = f"src/{self.module}"
        parts: Mapping[str, str] = {
            "pyproject.toml": _PYPROJECT,
            "README.md": _README,
            f"{source}/__init__.py": _INIT,
            f"{source}/hooks.py": _HOOKS,
            f"{source}/adapter.py": _HEAD[self.kind] + _BODY[self.kind],
            "tests/test_contract.py": _TESTS,
        }
        return {path: Template(text).substitute(words) for path, text in parts.items()}


_PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "diptych-$name"
version = "0.1.0"
description = "A diptych adapter: $name"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["diptych", "numpy"]

[project.optional-dependencies]
test = ["pytest>=8.3"]

[project.entry-points.diptych]
$name = "$module.hooks"

[tool.hatch.build.targets.wheel]
packages = ["src/$module"]

[tool.pytest.ini_options]
testpaths = ["tests"]
"""
_README = """\
# diptych-$name

An adapter of kind $kind for [diptych](https://pypi.org/project/diptych/), called `$name` in `diptych.yaml`.

    pip install -e '.[test]'
    pytest                           # the conformance kit
    diptych adapter check $name      # the same, through the entry point

Replace what `src/$module/adapter.py` computes by your model.
"""
_INIT = '''"""A diptych adapter: $name."""
'''
_HOOKS = '''"""What the entry point names. The adapter is imported only when it is made."""

from __future__ import annotations

import diptych


@diptych.hookimpl
def diptych_register_adapters() -> list[diptych.AdapterSpec]:
    """The adapter `$name`."""
    return [
        diptych.AdapterSpec(
            name="$name",
            kind="$kind",
            factory="$module.adapter:$cls",
            summary="hashed words; write here what yours is",
        )
    ]
'''
_TESTS = '''"""The conformance kit: each test is one demand of the contract."""

from __future__ import annotations

import pytest
from $module.adapter import $cls

from diptych.testing import $contract


class Test$cls($contract):
    @pytest.fixture(scope="class")  # made once, not for each test
    @classmethod
    def $fixture(cls) -> $cls:
        return $cls()
'''
_WORDS = '''

def words_of(text: str) -> list[str]:
    """The words of a text; an empty one has one empty word."""
    return re.findall(r"\\w+", text.lower()) or [""]
'''
_IMPORTS = '''"""The adapter. It satisfies a contract of diptych.protocols and needs no base class."""

from __future__ import annotations

import re
'''
_HEAD = {
    "dense": _IMPORTS
    + """import zlib
from collections.abc import Sequence

import numpy as np

from diptych.types import Floats
""",
    "sparse": _IMPORTS
    + """import zlib
from collections import Counter
from collections.abc import Sequence

from diptych.types import SparseVector
""",
    "reranker": _IMPORTS
    + """from collections.abc import Sequence

import numpy as np

from diptych.types import Floats
""",
}
_HEAD["multivector"] = _HEAD["dense"]
_BODY = {
    "dense": '''

class $cls:
    """One vector for each text."""

    similarity = "cosine"
    asymmetric = False  # queries and documents are encoded alike
    normalized = True

    def __init__(self, *, dimension: int = 256) -> None:
        self.dimension = dimension

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        """Vectors float32 `[n, dimension]` of length 1."""
        vectors = np.zeros((len(inputs), self.dimension), np.float32)
        for vector, text in zip(vectors, inputs, strict=True):
            for word in words_of(text):
                vector[zlib.crc32(word.encode()) % self.dimension] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    encode_query = encode_document
'''
    + _WORDS,
    "sparse": '''

class $cls:
    """Weights of words for each text."""

    uses_idf = True  # the store multiplies by inverse document frequency
    asymmetric = False

    def __init__(self, *, dimension: int = 2**20) -> None:
        self.dimension = dimension
        self._words: dict[int, str] = {}

    def encode_document(self, inputs: Sequence[str]) -> list[SparseVector]:
        """How often each text says each of its words."""
        return [self._vector(text) for text in inputs]

    encode_query = encode_document

    def decode(self, vector: SparseVector, top_k: int | None = None) -> list[tuple[str, float]]:
        """The words of a vector with their weights, heaviest first."""
        pairs = zip(vector.indices.tolist(), vector.values.tolist(), strict=True)
        heaviest = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:top_k]
        return [(self._words.get(index, f"#{index}"), weight) for index, weight in heaviest]

    def _vector(self, text: str) -> SparseVector:
        weights: dict[int, float] = {}
        for word, count in Counter(words_of(text)).items():
            index = zlib.crc32(word.encode()) % self.dimension
            self._words.setdefault(index, word)
            weights[index] = weights.get(index, 0.0) + count
        return SparseVector.from_mapping(weights)
'''
    + _WORDS,
    "multivector": '''

class $cls:
    """One vector for each word of each text, compared by MaxSim."""

    similarity = "cosine"
    asymmetric = False
    normalized = True

    def __init__(self, *, dimension: int = 64) -> None:
        self.dimension = dimension

    def encode_document(self, inputs: Sequence[str]) -> list[Floats]:
        """For each text vectors float32 `[words, dimension]` of length 1."""
        return [np.stack([self._vector(word) for word in words_of(text)]) for text in inputs]

    encode_query = encode_document

    def _vector(self, word: str) -> Floats:
        vector = np.random.default_rng(zlib.crc32(word.encode())).standard_normal(self.dimension)
        return (vector / np.linalg.norm(vector)).astype(np.float32)
'''
    + _WORDS,
    "reranker": '''

class $cls:
    """A score for each pair of query and document; higher is better."""

    max_length: int | None = None
    independent = True  # a pair's score does not depend on the other pairs

    def predict(self, pairs: Sequence[tuple[str, str]]) -> Floats:
        """Scores float32 `[n]`: the share of the query's words that the document has."""
        return np.array([_overlap(query, document) for query, document in pairs], np.float32)


def _overlap(query: str, document: str) -> float:
    asked = set(words_of(query))
    return len(asked & set(words_of(document))) / len(asked)
'''
    + _WORDS,
}
