"""Folders and records of collections, and the shard of each. Begin with `catalog`, then `collection`, `shard`."""
