"""`diptych adapter`: creates an adapter package, and runs the conformance kit on an installed adapter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.ui.options import JsonOption
from diptych.cli.ui.output import printable, stdout, write_json
from diptych.cli.ui.run_command import FAILED, command, group
from diptych.cli.ui.session import Session
from diptych.errors import RegistryError

if TYPE_CHECKING:
    from diptych.specs import AdapterSpec
    from diptych.testing.checks import Check, Conditions

KINDS = ("dense", "sparse", "multivector", "reranker")
_CONTRACTS = {
    "dense": ("DenseEncoderContract", "encoder"),
    "sparse": ("SparseEncoderContract", "encoder"),
    "multivector": ("MultiVectorEncoderContract", "encoder"),
    "reranker": ("RerankerContract", "reranker"),
}
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

app = group("adapter", "For adapter authors: create a package, or check an installed adapter.")
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The adapter's name in diptych.yaml, such as word-hash.")],
    kind: Annotated[str, typer.Option(metavar="KIND", help=f"The kind of adapter: {', '.join(KINDS)}.")] = "dense",
    folder: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The new folder; by default diptych-NAME in the working folder."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Create a package with an adapter that passes the conformance kit, ready for your model.

    [dim]Examples:[/dim]

      diptych adapter new word-hash

      diptych adapter new my-reranker --kind reranker --folder ../my-reranker
    """
    if not _NAME.fullmatch(name):
        raise RegistryError("not a valid name for an adapter", got=name, expected="lower case letters, digits, hyphens")
    if kind not in KINDS:
        raise RegistryError("there is no template of this kind", got=kind, expected=", ".join(KINDS))
    place = folder or Path(f"diptych-{name}")
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise RegistryError("the folder exists", where=place, do="name another one: --folder FOLDER")
    files = NewAdapter(name, kind).files()
    for path, content in files.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(content, encoding="utf-8")
    if as_json:
        return write_json({"folder": str(place), "files": list(files)})
    console = stdout()
    console.print(f"{place}: {len(files)} files", style="bold", soft_wrap=True)
    console.print(f"next: pip install -e '{place}[test]' && diptych adapter check {name}", soft_wrap=True)
    return None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A check and its outcome: "passed", "failed" or "skipped", with the reason."""

    check: str
    outcome: str
    reason: str = ""


def check(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="An adapter; diptych adapters lists them.")],
    option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option of the adapter; repeat for more.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the conformance kit on an installed adapter. Exits with 1 if a check fails.

    [dim]Examples:[/dim]

      diptych adapter check bm25

      diptych adapter check sentence-transformers --option model=all-MiniLM-L6-v2
    """
    session: Session = context.obj
    spec = session.registry.spec(name)
    adapter: Any = session.registry.create(name, _options(option or []), where=f"adapter {name!r}")
    outcomes = list(_outcomes(spec, adapter))
    failed = sum(outcome.outcome == "failed" for outcome in outcomes)
    if as_json:
        write_json({"adapter": name, "kind": spec.kind, "passed": not failed, "checks": outcomes})
    else:
        _show(name, spec.kind, outcomes)
    if failed:
        raise typer.Exit(FAILED)


def _outcomes(spec: AdapterSpec, adapter: Any) -> Iterator[Outcome]:
    from diptych.protocols import Calibrated
    from diptych.testing.checks import CHECKS, MEDIA_CHECKS, Conditions
    from diptych.testing.conformance import ConformanceFailure

    takes_texts, modalities = "text" in spec.accepts, [modality for modality in spec.accepts if modality != "text"]
    of_media = [Conditions(kind=spec.kind, modality=modality, takes_texts=takes_texts) for modality in modalities]
    conditions = Conditions(kind=spec.kind)
    if isinstance(adapter, Calibrated):
        adapter.calibrate(adapter.measure(conditions.texts))
    pairs = [(check, own) for own in of_media for check in MEDIA_CHECKS]
    for check, conditions in pairs or [(check, conditions) for check in CHECKS[spec.kind]]:
        name = check.__name__.removeprefix("check_").replace("_", " ")
        name = f"{conditions.modality}: {name}" if len(modalities) > 1 else name
        if reason := _skipped(check, adapter, conditions):
            yield Outcome(name, "skipped", reason)
            continue
        try:
            check(adapter, conditions)
        except ConformanceFailure as failure:
            text = f"{failure.what}; got {failure.got}; expected {failure.expected}"
            yield Outcome(name, "failed", text)
        else:
            yield Outcome(name, "passed")


def _skipped(check: Check, adapter: Any, conditions: Conditions) -> str:
    """Why a check does not apply; empty if it does."""
    match check.__name__:
        case "check_sides_as_declared" if conditions.declared(adapter, "asymmetric") is None:
            return "it does not say whether it is `asymmetric`"
        case "check_normalized" if not conditions.declared(adapter, "normalized"):
            return "it does not declare `normalized`"
        case "check_scores_independent" if not adapter.independent:
            return "its scores depend on the other pairs"
        case "check_texts_beside_media" if not conditions.takes_texts:
            return "it takes no texts"
        case "check_known_vectors" | "check_sibling_documents":
            return "for tests of its own: see diptych.testing"
    return ""


def _options(arguments: Sequence[str]) -> dict[str, Any]:
    """Parse `--option KEY=VALUE`: numbers, booleans, lists and objects as JSON, everything else as text."""
    options = {}
    for text in arguments:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise RegistryError("--option is not KEY=VALUE", got=repr(text), expected="such as dimension=256")
        try:
            options[key] = json.loads(value)
        except (ValueError, RecursionError):
            options[key] = value
    return options


def _show(name: str, kind: str, outcomes: Sequence[Outcome]) -> None:
    console = stdout()
    styles = {"passed": "green", "failed": "bold red", "skipped": "dim"}
    for outcome in outcomes:
        reason = f": {printable(outcome.reason)}" if outcome.reason else ""
        console.print(f"{outcome.outcome:<8}{outcome.check}{reason}", style=styles[outcome.outcome], soft_wrap=True)
    counts = {word: sum(outcome.outcome == word for outcome in outcomes) for word in styles}
    totals = ", ".join(f"{number} {word}" for word, number in counts.items() if number)
    console.print(f"{name} ({kind}): {totals}", style="bold", soft_wrap=True)


command(app, "new", new)
command(app, "check", check)


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
