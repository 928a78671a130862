"""What Studio says of generations of vectors: short labels that tell two apart, and a config file that names others."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from diptych.collection.collection import Collection
from diptych.config import Config, load_config
from diptych.config.secrets import redacted
from diptych.errors import DiptychError
from diptych.handle.config_state import describes, live_lines
from diptych.metadata.models import CollectionMetadata, Generation


def maker(generation: Generation, beside: Generation | None = None) -> str:
    """The encoder and the generation's number: `bm25, language: german, generation 2`.

    Args:
        beside: another generation of the slot; the options in which the first differs from it are named.
    """
    return f"{encoder(generation, beside)}, generation {generation.number}"


def encoder(generation: Generation, beside: Generation | None = None) -> str:
    """The encoder, with the options in which it differs from that of another generation: `bm25, language: german`."""
    model = str(generation.options.get("model", "")).rpartition("/")[2]
    return ", ".join([f"{generation.adapter} {model}".strip(), *own_options(generation, beside)])


def difference(generation: Generation, beside: Generation | None) -> str:
    """How a generation differs from another: the options that differ, else the encoder."""
    options = own_options(generation, beside)
    alike = beside is not None and beside.options.get("model") == generation.options.get("model")
    return ", ".join(options) if options and alike else encoder(generation, beside)


def own_options(generation: Generation, beside: Generation | None) -> list[str]:
    """The options, without the model, in which a generation differs from another by the same adapter."""
    if beside is None or beside.adapter != generation.adapter:
        return []
    mine, other = generation.options, beside.options
    names = [name for name in {**mine, **other} if name != "model" and mine.get(name) != other.get(name)]
    shown = redacted(mine)
    return [f"{name}: {_short(shown.get(name))}" for name in names]


def beside(metadata: CollectionMetadata, slot: str, generation: Generation) -> Generation | None:
    """The slot's other generation, which a generation has to be told from; None where there is no other."""
    building = metadata.swap.building if metadata.swap else {}
    before = metadata.previous.slots if metadata.previous else {}
    all_slots: tuple[Mapping[str, Generation], ...] = (metadata.live.slots, building, before)
    others = (slots[slot] for slots in all_slots if slot in slots)
    return next((one for one in others if one.number != generation.number), None)


def rolled_back(metadata: CollectionMetadata) -> bool:
    """Whether the last cut-over is taken back, so that a rollback would go forward again: that is recorded alike."""
    if metadata.swap is not None or metadata.previous is None:
        return False
    whats = [event.what for event in reversed(metadata.history)]
    since = whats[: whats.index("cut over")] if "cut over" in whats else whats
    return since.count("rolled back") % 2 == 1


def stale_config(collection: Collection, metadata: CollectionMetadata) -> dict[str, str] | None:
    """That the config file, as it is now, names other encoders than those that are live, and the lines to restore.

    After a rollback it often does. None where it names the live ones, where a swap to just those of the file is under
    way, and where there is no file to read.
    """
    served = collection.handle.config
    path = served.source.path if served is not None else None
    if path is None:
        return None
    try:
        found = path.stat()
        config = _read(path, (found.st_mtime_ns, found.st_size))
    except (DiptychError, OSError):
        return None
    live = metadata.live
    if describes(config, live) or (metadata.swap is not None and describes(config, metadata.swap.target)):
        return None
    sentence = (
        f"{path.name} names other encoders than those that are live, and a program that is started now may refuse it. "
        "To keep the live ones, restore the lines below; to go to those of the file, run diptych apply"
    )
    return {"sentence": sentence, "restore": "\n".join(live_lines(config, live))}


@lru_cache(8)
def _read(path: Path, signature: tuple[int, int]) -> Config:
    return load_config(path)


def _short(value: Any) -> str:
    text = "unset" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
