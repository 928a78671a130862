"""Commands on collections and their documents, one module each.

`populate`, `import_file`, `copy` and `adopt` fill or take over a collection; `collections`, `info` and `get` show
what is there; `delete` and `export` work on documents; `cache` and `edge` serve the embedding cache and embedded
stores.
"""
