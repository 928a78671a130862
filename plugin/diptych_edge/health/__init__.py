"""Integrity of a store's files: checked when it opens, tracked while it is open, repaired on request.

Begin with `seal`, which records what a shard held; `inspection` compares at the next opening. `repair`
rebuilds a damaged shard with `salvage`, in another process. `space` refuses writes that a full disk would turn into a
crash.
"""
