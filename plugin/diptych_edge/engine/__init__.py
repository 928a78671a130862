"""Collections on disk: the folder, the record and the shard of each.

Begin with `catalog` (all collections of a path), then `collection` and `shard`. `folders` keeps the record of
what Edge does not store, and other processes out; `optimization` builds indexes on a copy in another process.
"""
