"""`diptych adapters`: what can be used, and with which options; makes an adapter's package, and checks adapters."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from diptych.cli.init import scalar
from diptych.cli.options import JsonOption
from diptych.cli.output import show, stdout, write_json
from diptych.cli.run_command import FAILED, Session
from diptych.display import Display, Table, printable
from diptych.errors import RegistryError
from diptych.plugins.factory import missing
from diptych.protocols import Kind
from diptych.specs import AdapterSpec

if TYPE_CHECKING:
    from diptych.testing.checks import Check, Conditions


WORDS = {"int": "integer", "float": "number", "str": "text", "bool": "boolean"}


def adapters(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Show the options of this adapter.", show_default=False)] = None,
    *,
    kind: Annotated[
        Kind | None, typer.Option(metavar="KIND", help=f"Only this kind, or of a new one: {', '.join(get_args(Kind))}.")
    ] = None,
    check: Annotated[str | None, typer.Option(metavar="NAME", help="Run the conformance kit on this adapter.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="With --check: an option of the adapter; repeat for more."),
    ] = None,
    new: Annotated[
        str | None, typer.Option(metavar="NAME", help="Create a package with an adapter of this name for your model.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="With --new: the package's folder. [default: diptych-NAME]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the adapters of all installed plugins, or the options of one; check one, or begin a new one.

    A new adapter passes the conformance kit. --check exits with 1 if a check fails.

    [dim]Examples:[/dim]

      diptych adapters

      diptych adapters --kind reranker

      diptych adapters bm25

      diptych adapters --check sentence-transformers --option model=all-MiniLM-L6-v2

      diptych adapters --new my-reranker --kind reranker --folder ../my-reranker
    """
    session: Session = context.obj
    if sum(given is not None for given in (name, check, new)) > 1:
        raise RegistryError("NAME, --check and --new do not go together", do="give one of them")
    if (option and check is None) or (folder and new is None):
        what, needed = ("--option", "--check NAME") if option else ("--folder", "--new NAME")
        raise RegistryError(f"{what} goes with {needed}", do=f"add {needed}")
    if new is not None:
        return _create(new, kind or "dense", folder, as_json)
    if check is not None:
        return _check(session, check, option or [], as_json)
    if name is not None:
        return _show_one(session, session.registry.spec(name), as_json)
    rows = [_row(session, spec) for spec in session.registry.specs() if kind in (None, spec.kind)]
    if as_json:
        return write_json({"adapters": rows})
    return show(_shown(rows))


def _shown(rows: Sequence[Mapping[str, Any]]) -> Display:
    listed = [(row["name"], row["kind"], row["summary"], _ready(row), row["source"]) for row in rows]
    width = 5 if len({row["source"] for row in rows}) > 1 else 4
    table = Table(("adapter", "kind", "what it is", "ready", "from")[:width], [row[:width] for row in listed])
    return Display("", [table, *sorted({row["missing"] for row in rows if row["missing"]})])


def _ready(row: Mapping[str, Any]) -> str:
    """`yes`, or the name of the extra that is missing: `torch`."""
    if not row["missing"]:
        return "yes"
    package = str(row["missing"]).removeprefix("pip install ").strip("'")
    return f"needs {package.removeprefix('diptych[').removesuffix(']')}"


def _row(session: Session, spec: AdapterSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "kind": spec.kind,
        "summary": spec.summary,
        "missing": missing(spec),
        "remote": spec.remote,
        "source": session.registry.source(spec.name),
    }


def _show_one(session: Session, spec: AdapterSpec, as_json: bool) -> None:
    from diptych.plugins.factory import alike, option_schemas

    variants = [variants[0][1] for variants in alike(spec)]
    schemas = [
        schema if schema or missing(variant) else _schema_of_factory(variant)
        for variant, schema in zip(variants, option_schemas(spec), strict=True)
    ]
    options = schemas[0] if len(schemas) == 1 else {"oneOf": schemas}
    row = {**_row(session, spec), "facts": dict(spec.facts), "factory": spec.factory, "options": options}
    if as_json:
        return write_json(row)
    listed: list[Table | str] = []
    for schema in schemas:
        if schema is None or not schema["properties"]:
            listed.append("options: none" if schema else "options: whatever its factory takes; it declares none")
        else:
            facts, required = schema["properties"], schema.get("required", [])
            listed.append(options_table((name, facts[name], name in required) for name in facts))
    ready = " or ".join(dict.fromkeys(missing(variant) or "ready to use" for variant in variants))
    return show(Display(f"{spec.name} ({spec.kind}): {spec.summary}", [f"from {row['source']}; {ready}", *listed]))


def options_table(options: Iterable[tuple[str, dict[str, Any], bool]]) -> Table:
    """Options by name, facts in the form of a JSON Schema, and whether they are required."""
    rows = []
    for name, facts, is_required in options:
        default = facts.get("default")
        shown = "required" if is_required else "" if default is None else scalar(default)
        rows.append((name, type_of(facts), shown, facts.get("description", "")))
    return Table(("option", "type", "default", "meaning"), rows)


def _schema_of_factory(spec: AdapterSpec) -> dict[str, Any] | None:
    """The parameters of the adapter's factory in the form of a JSON Schema, None when it takes anything."""
    from diptych.plugins.factory import factory_parameters

    parameters = factory_parameters(spec)
    if parameters is None:
        return None
    empty = inspect.Parameter.empty
    properties = {p.name: _facts(p) for p in parameters}
    return {"properties": properties, "required": [p.name for p in parameters if p.default is empty]}


def _facts(parameter: inspect.Parameter) -> dict[str, Any]:
    empty, annotation = inspect.Parameter.empty, parameter.annotation
    name = getattr(annotation, "__name__", annotation) if annotation is not empty else ""
    facts: dict[str, Any] = {"type": WORDS.get(str(name), str(name))} if name else {}
    return facts if parameter.default is empty else {**facts, "default": parameter.default}


def type_of(facts: dict[str, Any]) -> str:
    """A JSON Schema's type in a few words: `integer`, `cpu | cuda`, `text or null`."""
    if "enum" in facts:
        return " | ".join(map(str, facts["enum"]))
    if "const" in facts:
        return str(facts["const"])
    if "anyOf" in facts:
        return " or ".join(type_of(option) for option in facts["anyOf"])
    if "oneOf" in facts:
        return " or ".join(type_of(option) for option in facts["oneOf"])
    if facts.get("type") == "array":
        return f"list of {type_of(facts.get('items', {}))}"
    return str(facts.get("type") or facts.get("$ref", "any").rpartition("/")[2]).replace("string", "text")


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
    diptych adapters --check $name      # the same, through the entry point

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

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def _create(name: str, kind: str, folder: Path | None, as_json: bool) -> None:
    """Write a package with an adapter that passes the conformance kit."""
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
    console.print(f"next: pip install -e '{place}[test]' && diptych adapters --check {name}", soft_wrap=True)
    return None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A check and its outcome: "passed", "failed" or "skipped", with the reason."""

    check: str
    outcome: str
    reason: str = ""


def _check(session: Session, name: str, options: Sequence[str], as_json: bool) -> None:
    """Run the conformance kit on an installed adapter."""
    spec = session.registry.spec(name)
    adapter: Any = session.registry.create(name, _options(options), where=f"adapter {name!r}")
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
    from diptych.testing.checks.conditions import ConformanceFailure

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
