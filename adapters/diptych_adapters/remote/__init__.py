"""Encoders and rerankers behind HTTP: OpenAI-compatible, text-embeddings-inference, Cohere and Jina.

Begin with `endpoint`, which sends requests by `http_exchange`, repeats them, checks what comes back and notices when
the model behind an address changes; then `adapters`.
"""
