"""Metrics for Prometheus: requests, encoded texts, batch sizes."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)


class Metrics:
    """The metrics of one service, in a registry of their own."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Counter("diptych_requests", "Requests answered.", ["route", "status"], registry=registry)
        self.seconds = Histogram(
            "diptych_request_seconds", "Seconds from request to answer.", ["route"], buckets=SECONDS, registry=registry
        )
        self.in_flight = Gauge("diptych_requests_in_flight", "Requests under way.", registry=registry)
        self.texts = Counter(
            "diptych_texts_encoded", "Texts encoded by /v1/embeddings.", ["model", "side"], registry=registry
        )
        self.pairs = Counter(
            "diptych_pairs_scored", "Pairs of query and document reranked.", ["model"], registry=registry
        )
        self.queries = Counter("diptych_queries", "Queries searched.", ["collection"], registry=registry)
        self.batches = Histogram(
            "diptych_encode_batch_size",
            "Texts or pairs in a call of a model.",
            ["model"],
            buckets=SIZES,
            registry=registry,
        )
        self.ready = Gauge("diptych_ready", "1 once everything that is served has been warmed.", registry=registry)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
