"""Enters a trained model in a config file, in place; all other lines stay as they are.

A comment at the end of a line goes where the line's value is replaced.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.config import check_adapters, load_config
from diptych.config.adapters import check_text
from diptych.config.load import replace_config
from diptych.config.models import SlotConfig
from diptych.config.section import fields_of
from diptych.config.stages import Rerank
from diptych.config.yaml_files import as_yaml, read_lines
from diptych.errors import ConfigError
from diptych.protocols import Kind
from diptych.runtime.validation_messages import nearest
from diptych.training.contracts import Registration

if TYPE_CHECKING:
    from diptych.registry import Registry

OF_THE_OLD_MODEL = (
    "model",
    "revision",
    "truncate_dim",
    "query_prompt",
    "document_prompt",
    "max_length",
)


def register(config: Path, trained: Registration, registry: Registry, *, slot: str | None = None) -> str:
    """Make a slot, or the reranker, of a config file use a trained model.

    The slot's `of` becomes the modality of a model of media. Its storage stays, and its other options when the adapter
    stays: backend, precision, device, batch_size. An encoder without a slot of its kind needs `slot`, which is then
    added. A reranker replaces the first one there is.

    Args:
        config: a diptych.yaml.
        trained: what stands in it afterwards.
        registry: which knows the adapter.
        slot: which one; the only one of the model's kind when not given.

    Returns:
        What was changed, such as `slots.dense`.

    Raises:
        ConfigError: the config cannot be read or written, or it is not clear which slot is meant.
    """
    kind = registry.spec(trained.adapter).kind
    name = slot_for(config, kind, registry, slot=slot, of=None if trained.of == "text" else trained.of)
    source = config.read_text("utf-8-sig")
    raw: MutableMapping[str, Any] = read_lines(source)
    if name is None:
        place, stages = "search.rerank[0]", raw.setdefault("search", {}).setdefault("rerank", [])
        if not stages:
            stages.append({})
        stages[0] = _section(stages[0], trained, config, registry, tuple(fields_of(Rerank)))
    elif trained.queries:
        place = _student(raw.setdefault("slots", {}), trained, config, name)
    else:
        place, slots = f"slots.{name}", raw.setdefault("slots", {})
        slots[name] = _section(slots.get(name) or {}, trained, config, registry, ("of", "storage"))
        if trained.of != "text":
            slots[name]["of"] = trained.of
    text = as_yaml(raw)
    check_text(text, registry)
    replace_config(config, text)
    return place


def slot_for(
    config: Path, kind: Kind, registry: Registry, *, slot: str | None = None, of: str | None = None
) -> str | None:
    """The slot of a config file that a model of this kind would go to; None for a reranker.

    Args:
        of: the modality that it must read unless `slot` names one; any when not given.

    Raises:
        ConfigError: the config cannot be read, or it is not clear which slot is meant.
    """
    loaded = load_config(config)
    check_adapters(loaded, registry)
    return None if kind == "reranker" else slot or _only(loaded.slots, kind, of, config, registry)


def _student(slots: Any, trained: Registration, config: Path, name: str) -> str:
    """The slot's `query` names the student; the slot must be there, since its encoder makes the documents' vectors."""
    if not slots.get(name):
        raise ConfigError(
            "a student needs the slot of its teacher, and the config has no such slot",
            where=config,
            got=name,
            expected=", ".join(slots),
            do="name the slot whose encoder is the teacher: --slot NAME",
        )
    own = {key: value for key, value in trained.options.items() if key != "model"}
    student = {"student": relative(trained.options["model"], config), **own}
    same = slots[name].get("adapter") == trained.adapter
    slots[name]["query"] = student if same else {"adapter": trained.adapter, **student}
    return f"slots.{name}.query"


def _only(slots: Mapping[str, SlotConfig], kind: Kind, of: str | None, config: Path, registry: Registry) -> str:
    """The one slot whose adapter is of this kind, and that reads `of` where one is given."""
    of_kind = [name for name, slot in slots.items() if registry.spec(slot.adapter).kind == kind]
    fitting = [name for name in of_kind if of is None or slots[name].of == of]
    if len(fitting) != 1:
        what = f"{kind} model" if of is None else f"{kind} model of {of}"
        raise ConfigError(
            f"it is not clear which slot the trained {what} is for",
            where=config,
            got=", ".join(fitting) or (f"no {kind} slot" if of is None else f"no {kind} slot of: {of}"),
            expected="one",
            do=f"name it: --slot NAME {nearest(kind, slots)}".strip(),
        )
    return fitting[0]


def _section(old: Any, trained: Registration, config: Path, registry: Registry, keys: tuple[str, ...]) -> Any:
    """The section with adapter and model replaced; the same object, so that its comments stay."""
    options = old.get("options") if isinstance(old.get("options"), MutableMapping) else old
    maker, before = registry.spec(trained.adapter).with_options(trained.options), old.get("adapter")
    same = before and registry.spec(before).with_options(options).factory == maker.factory
    for key in [key for key in options if key not in ("adapter", "options", *keys)]:
        if not same or key in OF_THE_OLD_MODEL:
            del options[key]
    _replace(old, "adapter", trained.adapter)
    for key, value in trained.options.items():
        _replace(options, key, relative(value, config) if key == "model" else value)
    return old


def _replace(section: Any, key: str, value: object) -> None:
    """Set a value. A comment at the end of its line is of the value before, and goes with it."""
    comments = getattr(getattr(section, "ca", None), "items", {})
    token = comments[key][2] if key in comments else None
    if token is not None and section.get(key) != value:
        token.value = "".join(token.value.partition("\n")[1:])  # comments on lines below belong to what follows
    section[key] = value


def relative(model: object, config: Path) -> str:
    """The model folder as the config names it: relative if it is below the config's folder."""
    path = os.path.relpath(str(model), config.absolute().parent)
    return str(model) if path.startswith("..") else f"./{path}"
