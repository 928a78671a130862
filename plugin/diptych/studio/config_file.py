"""Checks whether the config file names the live encoders. After a rollback it often does not."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from diptych.collection.collection import Collection
from diptych.config import Config, load_config
from diptych.errors import DiptychError
from diptych.handle.config_state import describes, live_lines
from diptych.metadata.models import CollectionMetadata


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
    return {"sentence": sentence, "restore": "\n".join(live_lines(config, live))}


@lru_cache(8)
def _read(path: Path, signature: tuple[int, int]) -> Config:
    return load_config(path)
