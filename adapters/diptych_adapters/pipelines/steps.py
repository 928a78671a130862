"""Names the steps of a sentence-transformers pipeline after its transformer, for fingerprints."""

from __future__ import annotations

from typing import Any

from diptych_adapters.pipelines import fingerprints

NO_EFFECT = ("Dropout",)


def pipeline_steps(model: Any) -> list[str]:
    """The modules of a pipeline that turn token vectors into the result, each with the facts that change it.

    The facts are picked here rather than taken from the library's own configuration, whose keys change with its
    version: a collection must not be refused because a library was updated.
    """
    return [step for module in model.children() if (step := _step(module))]


def is_routed(model: Any) -> bool:
    """Whether queries and documents use different modules."""
    return any(type(module).__name__ == "Router" for module in model.children())


def _step(module: Any) -> str:
    kind = type(module).__name__
    if kind in NO_EFFECT:
        return ""
    if kind == "Transformer":
        lower = ["lowercase"] if getattr(module, "do_lower_case", False) else []
        return "+".join([*lower, *filter(None, [_late_interaction(module)])])
    facts = ",".join(filter(None, _facts(kind, module)))
    return f"{kind.lower()}({facts})" if facts else kind.lower()


def _facts(kind: str, module: Any) -> list[str]:
    if kind == "Pooling":
        return [_joined(module.pooling_mode), "" if module.include_prompt else "without-prompt"]
    if kind == "SpladePooling":
        return [module.pooling_strategy, module.activation_function]
    if kind == "Router":
        return [f"{name}:{'+'.join(pipeline_steps(route))}" for name, route in sorted(module.sub_modules.items())]
    if kind == "Dense":
        return [f"{module.in_features}-{module.out_features}", type(module.activation_function).__name__]
    if kind == "MultiVectorMask":
        return [_short([sorted(module.skiplist_words or []), sorted(module.keep_only_token_ids or [])])]
    if kind in ("Normalize", "StaticEmbedding"):
        return []
    return [_short(module.get_config_dict()) if hasattr(module, "get_config_dict") else ""]


def _late_interaction(transformer: Any) -> str:
    """The settings that only late-interaction models have; the rest is in weights, tokenizer and length."""
    names = ("query_length", "document_length", "query_expansion")
    facts = {name: value for name in names if (value := getattr(transformer, name, None)) is not None}
    return f"lengths({_short(facts)})" if facts else ""


def _joined(mode: str | tuple[str, ...]) -> str:
    return mode if isinstance(mode, str) else "&".join(mode)


def _short(value: Any) -> str:
    return fingerprints.digest(value)[: fingerprints.DIGITS]
