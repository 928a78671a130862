"""The HTTP service: collections, encoders and rerankers for programs in any language. Run by `diptych serve`.

Begin with `application` and `routes`. `served` opens what is served, `admission` checks keys and load, `model_batches`
joins the calls of several clients, `server` and `shutdown` listen and stop. `served` and `api_keys` need no web
framework and are shared with the MCP server; the other modules need `diptych[serve]`.
"""
