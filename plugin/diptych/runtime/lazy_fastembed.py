"""Makes qdrant-client import FastEmbed on first use, not whenever qdrant-client itself is imported.

`qdrant_client.fastembed_common` imports FastEmbed, and onnxruntime with it, wherever they are installed: that costs
every search a second, although diptych never has qdrant-client run a model. An import hook executes that one module as
if FastEmbed were not installed, then gives it stand-ins that import FastEmbed when they are called. So
`QdrantClient.query_points(query=models.Document(...))` works as before, and so does `import fastembed` everywhere else.
Only the deprecated tables of models in that module (`SUPPORTED_EMBEDDING_MODELS` and its like) stay empty.

A qdrant-client without this module, and a FastEmbed that is imported already, are left alone.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

IMPORTER, LIBRARY = "qdrant_client.fastembed_common", "fastembed"
CLASSES = (
    "TextEmbedding",
    "SparseTextEmbedding",
    "ImageEmbedding",
    "LateInteractionTextEmbedding",
    "LateInteractionMultimodalEmbedding",
)


class LazyClass:
    """A class of FastEmbed that is imported when it is called or an attribute of it is read."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *args: Any, **options: Any) -> Any:
        """An object of the class."""
        return self._loaded()(*args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loaded(), name)

    def __instancecheck__(self, instance: Any) -> bool:
        return LIBRARY in sys.modules and isinstance(instance, self._loaded())

    def __repr__(self) -> str:
        return f"<{LIBRARY}.{self._name}, not imported before it is used>"

    def _loaded(self) -> Any:
        return getattr(importlib.import_module(LIBRARY), self._name)


def install() -> None:
    """Add the import hook, once per process. Call before qdrant_client is imported; later it changes nothing."""
    if IMPORTER not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds the one module that imports FastEmbed, and executes it without."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != IMPORTER or LIBRARY in sys.modules:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec and spec.loader and importlib.util.find_spec(LIBRARY):
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Executes the module with an import statement that finds no FastEmbed, then puts the stand-ins in."""

    def __init__(self, inner: Loader) -> None:
        self._inner = inner
        self._hidden = True

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # The module's own builtins, not sys.modules: threads that import FastEmbed meanwhile must find it.
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self._import}
        self._inner.exec_module(module)
        self._hidden = False
        module.__dict__["__builtins__"] = builtins
        for name in CLASSES:
            if vars(module).get(name, module) is None:
                setattr(module, name, LazyClass(name))
        if misc := getattr(module, "FastEmbedMisc", None):
            misc.IS_INSTALLED = True  # what its is_installed() would keep after importing FastEmbed

    def _import(self, name: str, *arguments: Any, **options: Any) -> Any:
        if self._hidden and name.partition(".")[0] == LIBRARY:
            raise ImportError(f"{LIBRARY} is imported when it is first used", name=name)
        return builtins.__import__(name, *arguments, **options)
