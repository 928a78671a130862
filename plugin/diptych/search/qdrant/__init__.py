"""What a search asks of Qdrant.

Begin with `query`, which builds the request for a pipeline; `retrieval` sends it. `filters` checks filters, `feedback`
builds queries from liked and unliked examples, and `store_calls` retries reads and says what their failures mean.
"""
