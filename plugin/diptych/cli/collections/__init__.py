"""Commands on collections and their documents.

Begin with `populate`. It, `copy` and `adopt` fill or take over a collection, `copy` has export and import, too;
`info` shows what is there; `documents` shows and deletes single documents; `cache` and `edge` serve the embedding
cache and embedded stores.
"""
