"""Whether the config file names the encoders that are live. After a rollback it often does not."""

from __future__ import annotations

from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any

from diptych.collection.collection import Collection
from diptych.config import Config, load_config
from diptych.config.secrets import redacted
from diptych.errors import DiptychError
from diptych.handle.open_handle import describes, reading_of
from diptych.metadata.models import CollectionMetadata, State


def stale_config(collection: Collection, metadata: CollectionMetadata) -> dict[str, str] | None:
    """That the config file, as it is now, names other encoders than those that are live, and the lines to restore.

    None where it names them, where a swap to just those of the file is under way, and where there is no file to read.
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
    return {"sentence": sentence, "restore": restored(config, live)}


@lru_cache(8)
def _read(path: Path, signature: tuple[int, int]) -> Config:
    return load_config(path)


def restored(config: Config, live: State) -> str:
    """The lines of the config file, as YAML, in which it differs from what is live."""
    changed = [name for name in live.slots if not _same(config, live, name)]
    lines = [f"  {name}: {_flow(_slot(live, name))}" for name in changed]
    lines += [f"  # remove {name}" for name in config.slots if name not in live.slots]
    text = ["slots:", *lines] if lines else []
    for name in changed:
        reading = live.slots[name].reading
        if reading != reading_of(config.populate, config.slots.get(name)) and reading.modality == "text":
            text.append(f"populate: {_flow({'input': list(reading.input), 'separator': reading.separator})}")
            break
    return "\n".join(text)


def _same(config: Config, live: State, name: str) -> bool:
    if name not in config.slots:
        return False
    one = config.model_copy(update={"slots": {name: config.slots[name]}})
    return describes(one, live.model_copy(update={"slots": {name: live.slots[name]}}))


def _slot(live: State, name: str) -> dict[str, Any]:
    """A slot as a config file says it."""
    generation, asking = live.slots[name], live.asking.get(name)
    said: dict[str, Any] = {"adapter": generation.adapter, **redacted(generation.options)}
    if generation.reading.modality != "text":
        said["of"] = generation.reading.modality
    if asking is not None and asking.student:
        student = asking.generation
        options = {key: value for key, value in redacted(student.options).items() if key not in ("model", "passages")}
        adapter = {"adapter": student.adapter} if student.adapter != generation.adapter else {}
        said["query"] = {"student": student.options.get("model"), **adapter, **options}
    return {**said, **({"storage": generation.storage} if generation.storage else {})}


def _flow(value: dict[str, Any]) -> str:
    from ruamel.yaml import YAML

    yaml: Any = YAML(typ="safe", pure=True)  # its attributes have no types
    yaml.default_flow_style, yaml.width, yaml.sort_base_mapping_type_on_output = True, 100_000, False
    text = StringIO()
    yaml.dump(value, text)
    return text.getvalue().strip()
