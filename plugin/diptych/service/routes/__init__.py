"""The routes of the HTTP service, one module for each family, and their OpenAPI document.

`search` and `write` work on collections, `models` on encoders and rerankers.
"""
