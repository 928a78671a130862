"""The HTTP service: collections, encoders and rerankers for programs in any language. Run by `diptych serve`.

Begin with `application` and `routes`. `served` opens what is served and joins the calls of several clients, `admission`
checks keys and load, `server` listens and stops. `served` and `access` need no web framework and are shared with the
MCP server; the other modules need `diptych[serve]`.
"""
