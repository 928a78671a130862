from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diptych.errors import AdapterOptionsError
from diptych.factory import options_model
from diptych.protocols import CONTRACTS
from diptych.registry import Registry
from diptych.specs import AdapterSpec
from diptych_adapters.models import ModelError
from diptych_adapters.specs import SPECS


@pytest.fixture(scope="module")
def registry() -> Registry:
    from diptych_adapters import hooks

    return Registry(hooks, installed=False)


def test_listing_adapters_and_their_options_imports_no_model_library() -> None:
    # qdrant-client itself imports fastembed, and with it tokenizers and onnxruntime, where it is installed.
    code = (
        "import sys; from diptych.registry import Registry; from diptych.factory import options_model\n"
        "from diptych_adapters import hooks\n"
        "[options_model(v) for spec in Registry(hooks, installed=False).specs() for _, v in spec.each()]\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'model2vec'}\n"
        "print(*sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""


VARIANTS = [
    (spec.name, choice, variant)
    for spec in SPECS
    if spec.extra not in ("", "diptych", "diptych[remote]")  # models alone
    for choice, variant in spec.each()
]


@pytest.mark.parametrize(("name", "choice", "spec"), VARIANTS, ids=lambda given: getattr(given, "name", ""))
def test_every_option_is_described_and_unknown_ones_are_refused(
    name: str, choice: dict[str, str], spec: AdapterSpec, registry: Registry
) -> None:
    model = options_model(spec)
    assert model is not None
    assert [name for name, field in model.model_fields.items() if not field.description] == []
    option = "batch_size" if "batch_size" in model.model_fields else "max_tokens"
    wrong = option.replace("_", "")
    with pytest.raises(AdapterOptionsError, match=rf"(?s)has no option '{wrong}'.*did you mean '{option}'"):
        registry.create(name, {**choice, "model": "x", wrong: 1})
    with pytest.raises(AdapterOptionsError, match="needs the option 'model'"):
        registry.create(name, choice)


@pytest.mark.parametrize(
    ("adapter", "trained_as", "before", "model"),
    [
        ("sentence-transformers", None, "", "mean"),
        ("sentence-transformers-sparse", None, "", "masked"),
        ("sentence-transformers-sparse", "masked-lm", "splade", "masked"),
        ("sentence-transformers-multivector", None, "", "multivector"),
        ("sentence-transformers-multivector", "dense", "token-vectors", "mean"),
        ("cross-encoder", None, "", "reranker"),
    ],
)
def test_the_registry_makes_each_adapter_and_under_an_old_name_the_same(
    registry: Registry, tiny: Callable[[str], Path], adapter: str, trained_as: str | None, before: str, model: str
) -> None:
    pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")
    options = {"model": str(tiny(model)), "device": "cpu"}
    made: Any = registry.create(adapter, options | ({"trained_as": trained_as} if trained_as else {}))
    assert isinstance(made, CONTRACTS[registry.spec(adapter).kind])
    if before:
        with pytest.warns(FutureWarning, match=f"adapter '{before}' is called '{adapter}' now"):
            old: Any = registry.create(before, options)
        assert old.fingerprint == made.fingerprint


def test_pickled_weights_reach_the_user_as_an_error_of_their_own(
    registry: Registry, tiny: Callable[[str], Path]
) -> None:
    pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")
    options = {"model": str(tiny("pickled")), "device": "cpu"}
    with pytest.raises(ModelError, match=r"got: pytorch_model\.bin"):
        registry.create("sentence-transformers", options)
    allowed = registry.create("sentence-transformers", options | {"allow_pickle_weights": True})
    safe = registry.create("sentence-transformers", {"model": str(tiny("bare")), "device": "cpu"})
    assert (allowed.encode_query(["audio"]) == safe.encode_query(["audio"])).all()  # type: ignore[union-attr]


def test_trusting_foreign_code_warns_through_the_adapter(registry: Registry, tiny: Callable[[str], Path]) -> None:
    pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")
    with pytest.warns(UserWarning, match="trust_remote_code is on"):
        registry.create(
            "sentence-transformers", {"model": str(tiny("mean")), "device": "cpu", "trust_remote_code": True}
        )
