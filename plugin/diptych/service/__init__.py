"""The HTTP service: collections, encoders and rerankers for programs in any language. `diptych serve` runs it.

`served` and `keys` need no web framework and serve the MCP server too; the other modules need `diptych[serve]`.
"""
