"""The routes of the HTTP service, one module for each family, and their OpenAPI document.

Begin with `search`. It and `write` work on collections, `models` on encoders and rerankers.
"""
