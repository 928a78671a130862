"""Collections on disk: the folder, the record and the shard of each.

Begin with `catalog` (all collections of a path), then `collection` and `shard`. `sidecar` keeps what Edge does not
store, `folders` keeps other processes out, `optimization` builds indexes on a copy in another process, `shared_engine`
lets several clients of one process use one engine.
"""
