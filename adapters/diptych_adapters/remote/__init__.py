"""Encoders and rerankers behind HTTP: OpenAI-compatible, text-embeddings-inference, Cohere and Jina.

Begin with `endpoint`, which sends requests by `http_exchange` and repeats them; then `dense`, `sparse` and `rerank`.
`answers` checks what comes back, `identity` notices when the model behind an address changes, `secrets` keeps keys out
of logs and errors.
"""
