"""The methods of `EdgeClient`, one module for each concern.

Begin with `edge_client`, which combines them over `base` and builds indexes. `collections` manages collections, their
vectors and indexes, `write_points` and `search` handle points, `groups` groups answers; `base` refuses what only a
server can do.
"""
