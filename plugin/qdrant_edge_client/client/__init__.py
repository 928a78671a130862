"""The methods of `EdgeClient`, one module for each concern.

Begin with `edge_client`, which combines them over `base`. `collections` and `schema` manage collections,
`write_points`, `upload` and `read_points` handle points, `search`, `groups` and `distance_matrix` answer queries,
`optimize` builds indexes; `unsupported` refuses what only a server can do.
"""
