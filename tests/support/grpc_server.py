"""A gRPC server on loopback whose every call is answered by a function: bytes of a message, or a status."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

Answer = Callable[[str, Any], bytes]  # of a method's name and its grpc.ServicerContext


@contextmanager
def grpc_server(answer: Answer) -> Iterator[str]:
    """The address of a server; calls that still run at the end are cancelled."""
    server: Any = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([_Handler(answer)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def refuse(status: str, sentence: str) -> Answer:
    """Answer every call with this status: `INTERNAL`, for instance."""

    def answer(_: str, context: Any) -> bytes:
        context.abort(grpc.StatusCode[status], sentence)
        return b""

    return answer


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def service(self, details: Any) -> Any:
        """What answers a call: messages come and go as bytes."""
        method = details.method.rpartition("/")[2]
        return grpc.unary_unary_rpc_method_handler(lambda _, context: self._answer(method, context))
