"""Tiny models of media with random weights, each made once per session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from diptych_adapters.media_models.encoder import FAMILIES, MediaEncoder
from tiny_media_models import saved

Folder: TypeAlias = Callable[..., Path]
Encoder: TypeAlias = Callable[..., MediaEncoder]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A folder of a model type, made when first asked for."""
    root = tmp_path_factory.mktemp("media-models")

    def made(kind: str) -> Path:
        path = root / kind
        return path if path.is_dir() else saved(kind, path)

    return made


@pytest.fixture(scope="session")
def encoder(folder: Folder) -> Encoder:
    """The adapter that serves a model type; without options it is shared by the tests."""
    made: dict[str, MediaEncoder] = {}

    def of(kind: str, **options: Any) -> MediaEncoder:
        options = {"modality": FAMILIES[kind].modality, "model": str(folder(kind)), **options}
        if len(options) > 2:
            return MediaEncoder(**options)
        if kind not in made:
            made[kind] = MediaEncoder(**options)
        return made[kind]

    return of
