"""The routes of the HTTP service, one module for each family, and their OpenAPI document.

`search` and `write` work on collections; `embeddings` follows OpenAI's API, `rerank` those of Cohere and Jina.
"""
