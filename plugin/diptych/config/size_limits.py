"""Limits the size and depth of a config, so that no file or mapping takes long to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ruamel.yaml.composer import Composer
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from diptych.config.locations import Source
from diptych.errors import ConfigError
from diptych.runtime.json_faults import MAX_DEPTH, first_fault

MAX_BYTES = 250_000  # a config is small; a corpus given in its place must not be parsed as YAML
MAX_VALUES = 20_000  # keys and values, each alias counted as what it stands for


class LimitedComposer(Composer):
    """Builds the nodes of a YAML document and stops where it is too deep or too long, before the rest is read."""

    _depth, _count = 0, 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """As the base class."""
        self._depth, self._count = self._depth + 1, self._count + 1
        if self._depth > MAX_DEPTH:
            raise too_deep()
        if self._count > MAX_VALUES:
            raise too_many()
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def too_deep() -> ConfigError:
    """The error for a config that is nested too deeply."""
    return ConfigError("the config is nested too deeply", expected=f"at most {MAX_DEPTH} levels")


def too_many() -> ConfigError:
    """The error for a config with too many values, aliases included."""
    return ConfigError("the config holds too many values", expected=f"at most {MAX_VALUES:,}, aliases written out")


def check_aliases(root: Node) -> None:
    """Raise ConfigError where aliases contain themselves, or stand for more than a config may hold."""
    _expanded(root, set(), {})


def _expanded(node: Node, above: set[int], sizes: dict[int, int]) -> int:
    """How many values the node is when its aliases are written out."""
    if id(node) in above:
        where = f"line {node.start_mark.line + 1}"
        raise ConfigError("an alias in the config contains itself", where=where, do="write the value out")
    if id(node) not in sizes:
        above.add(id(node))
        sizes[id(node)] = 1 + sum(_expanded(child, above, sizes) for child in children(node))
        above.remove(id(node))
    if sizes[id(node)] > MAX_VALUES:
        raise too_many()
    return sizes[id(node)]


def children(node: Node) -> list[Node]:
    """The nodes directly below; of a mapping its keys and values in turn."""
    if isinstance(node, MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []


def check_values(raw: Mapping[str, Any], source: Source) -> None:
    """Raise ConfigError for unusable values: too many, numbers beyond 64 bits, invalid Unicode.

    From a file, dates, bytes and numbers that are not finite are refused, too; Python may hand over any object.
    """
    fault = first_fault(raw, limit=MAX_VALUES, plain=source.path is not None)
    if fault is not None:
        where = source.where(fault.at)
        raise ConfigError(fault.what, where=where, got=fault.got, expected=fault.expected, location=fault.at)
