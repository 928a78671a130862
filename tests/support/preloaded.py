"""Python programs and `diptych` commands, run in processes forked from one that has imported what most of them load.

A program that loads PyTorch and sentence-transformers spends most of its time on imports. `python preloaded.py serve
SOCKET` imports them once; `python preloaded.py SOCKET PROGRAM ...` then runs a program, or `diptych` with its
arguments, as a child of that process: in the folder, with the environment and the open files of the caller, whose exit
code is the program's. A program ends as usual: at the end of its main module, with its exit handlers. What one has
encoded another need not encode again: see `shared_vectors`.

What a command imports, and Ctrl-C while it does, is the business of tests that start an interpreter of their own.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import socket
import struct
import sys
import threading
import types

LIBRARIES = ("qdrant_client", "sentence_transformers", "transformers.models.bert.modeling_bert", "scipy.stats")
LENGTH = struct.Struct(">I")
EXIT = struct.Struct(">i")
BROKEN_PIPE = 120  # the exit code of Python where nobody reads its output any more


def run(path: str, words: list[str]) -> int:
    """Have a program run; its exit code."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        request = json.dumps({"words": words, "folder": os.getcwd(), "environment": dict(os.environ)}).encode()
        socket.send_fds(server, [LENGTH.pack(len(request))], [0, 1, 2])
        server.sendall(request)
        (code,) = EXIT.unpack(received(server, EXIT.size))
    return int(code)


def received(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = connection.recv(size - len(found))
        if not part:
            raise ConnectionError("the process that runs programs has ended")
        found += part
    return found


def serve(path: str) -> list[str]:
    """Answer requests until the process that started this one ends; in a child that is to run a program: its words."""
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{path}.new")
        listening.listen(64)
        listening.settimeout(5)
        os.rename(f"{path}.new", path)  # who sees it may connect
        while os.getppid() == parent:
            with contextlib.suppress(TimeoutError):
                connection, _ = listening.accept()
                if os.fork() == 0:
                    listening.close()
                    return _answer(connection)
                connection.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:  # so that what they took counts as this process's
                    pass
    sys.exit(0)


def _answer(connection: socket.socket) -> list[str]:
    """Have a child run the program, and tell its exit code; returns in this child alone."""
    head, files, _, _ = socket.recv_fds(connection, LENGTH.size, 3)
    request = json.loads(received(connection, *LENGTH.unpack(head)))
    if child := os.fork():
        for file in files:
            os.close(file)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        connection.sendall(EXIT.pack(code if code >= 0 else 128 - code))
        os._exit(0)
    connection.close()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    words: list[str] = request["words"]
    return words


def run_to_its_end(words: list[str]) -> None:
    """Be the program, and leave as Python does, without taking the libraries apart."""
    code = 0
    try:
        run_program(words)
    except SystemExit as end:
        code = _exit_code(end)
    except KeyboardInterrupt:
        gc.unfreeze()  # or libraries tell at the end of what was left
        raise
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    program = vars(sys.modules["__main__"])
    if program is not globals():
        program.clear()
    gc.collect()  # what the program holds ends now, with what it has not written yet
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        code = BROKEN_PIPE
    os._exit(code)


def _exit_code(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return (end.code or 0) & 0xFF
    print(end.code, file=sys.stderr)
    return 1


def run_program(words: list[str]) -> None:
    """Be the program: `diptych` with arguments, or a Python file."""
    sys.argv = words
    del sys.path[0]  # where this file is
    if words[0] == "diptych":
        from diptych.cli import main as diptych_command

        diptych_command()  # leaves by SystemExit
    sys.path.insert(0, os.path.dirname(os.path.abspath(words[0])))
    main_module = types.ModuleType("__main__")
    main_module.__file__ = words[0]
    sys.modules["__main__"] = main_module  # so that pickle and multiprocessing find what it defines
    with open(words[0], "rb") as file:
        code = compile(file.read(), words[0], "exec")
    exec(code, vars(main_module))


def preload() -> None:
    """Import what programs load, and have them share vectors. A module whose extra is not installed is left out.

    What is imported stays: neither the import nor a program looks through it for garbage.
    """
    gc.disable()
    for name in ("diptych", "diptych_lab", "diptych_serve", "diptych_adapters"):
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    with contextlib.suppress(ImportError):
        importlib.import_module("shared_vectors").share()
    gc.enable()
    gc.freeze()


def main() -> None:
    if sys.argv[1] != "serve":
        sys.exit(run(sys.argv[1], sys.argv[2:]))
    preload()
    run_to_its_end(serve(sys.argv[2]))


if __name__ == "__main__":
    main()
