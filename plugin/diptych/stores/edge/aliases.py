"""Aliases: second names of collections, changed all at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qdrant_client import models

from diptych.errors import CollectionError
from diptych.stores.edge.arguments import check_arguments
from diptych.stores.edge.base import EdgeBase
from diptych.stores.edge.catalog import check_name


class Aliases(EdgeBase):
    """The part of EdgeClient that keeps aliases."""

    def update_collection_aliases(
        self, change_aliases_operations: Sequence[models.AliasOperations], **kwargs: Any
    ) -> bool:
        """Apply all operations or none.

        Raises:
            CollectionError: an alias would hide a collection, or the one to rename is not there.
            CollectionNotFound: the collection to point at is not there.
        """
        check_arguments("update_collection_aliases", kwargs)
        aliases = dict(self._catalog.aliases)
        for operation in change_aliases_operations:
            self._apply(operation, aliases)
        self._catalog.set_aliases(aliases)
        return True

    def get_aliases(self, **kwargs: Any) -> models.CollectionsAliasesResponse:
        """All aliases."""
        check_arguments("get_aliases", kwargs)
        return _response(self._catalog.aliases.items())

    def get_collection_aliases(self, collection_name: str, **kwargs: Any) -> models.CollectionsAliasesResponse:
        """The aliases of one collection."""
        check_arguments("get_collection_aliases", kwargs)
        return _response(item for item in self._catalog.aliases.items() if item[1] == collection_name)

    def _apply(self, operation: models.AliasOperations, aliases: dict[str, str]) -> None:
        if isinstance(operation, models.CreateAliasOperation):
            created = operation.create_alias
            self._check_free(created.alias_name)
            aliases[created.alias_name] = self._find(created.collection_name).record.name
        elif isinstance(operation, models.DeleteAliasOperation):
            aliases.pop(operation.delete_alias.alias_name, None)
        else:
            renamed = operation.rename_alias
            self._check_free(renamed.new_alias_name)
            if renamed.old_alias_name not in aliases:
                raise CollectionError(f"there is no alias {renamed.old_alias_name!r}", expected=", ".join(aliases))
            aliases[renamed.new_alias_name] = aliases.pop(renamed.old_alias_name)

    def _check_free(self, alias: str) -> None:
        check_name(alias, "alias")
        if alias in self._catalog.names():
            raise CollectionError(f"there is a collection {alias!r} already", do="choose another name for the alias")


def _response(items: Any) -> models.CollectionsAliasesResponse:
    return models.CollectionsAliasesResponse(
        aliases=[models.AliasDescription(alias_name=alias, collection_name=name) for alias, name in items]
    )
