"""No command, service, training or bridge talks to anybody but loopback, or leaves a file outside the folders given.

Each program of `private_runs` runs once, with every extra that is installed, and is looked at in three ways: Python's
own audit events, a home folder that was empty, and system calls where strace is there, since native
libraries raise no audit events.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from diptych.runtime import vendor_telemetry
from private_runs import PROGRAMS, ROOT
from tiny_encoders import tiny_encoder

pytestmark = [pytest.mark.slow(first=True), pytest.mark.timeout(1800)]

SUPPORT = ROOT / "tests" / "support"
CALL = re.compile(r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\("|inet_pton\(AF_INET6, ")([^"]+)')
TRACE = ("strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o")


OWN = ".cache/diptych/"  # converted models and passed checks; it has a documented place
IN_TEMP = ("/tmp/torchinductor_",)  # an empty folder of torch, wherever TMPDIR is
# Ray keeps the key of a cluster that it starts, asks whether it runs in a cloud (usage reports or not), and which
# address this machine would use towards a public one, to which it sends nothing.
OF_RAY = {".ray", ".ray/auth_token"}
ASKED_BY_RAY = ("metadata.google.internal", "169.254.169.254", "8.8.8.8", "0.0.0.0")


@dataclass(frozen=True)
class Record:
    """What a program did: audit lines, ports and hosts of its system calls, what it left in the home folder."""

    program: str
    lines: list[str]
    calls: list[tuple[str, str]] | None
    home: set[str]
    folder: Path


@pytest.fixture(scope="module", params=list(PROGRAMS))
def record(request: pytest.FixtureRequest, paraphrase: dict[str, Any]) -> Iterator[Record]:
    """The record of one program. Ray's sockets want a short path."""
    if request.param == "ray":
        pytest.importorskip("ray")
    folder = Path(tempfile.mkdtemp(prefix="dip"))
    try:
        for name in ("work", "home", "tmp"):
            (folder / name).mkdir()
        shutil.copytree(paraphrase["model"], folder / "work" / "paraphrase")
        tiny_encoder(folder / "bert", layers=1).save_pretrained(str(folder / "work" / "dense"))
        yield _recorded(request.param, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _recorded(program: str, folder: Path) -> Record:
    switches = {vendor_telemetry.SWITCH, *vendor_telemetry.VARIABLES}
    kept = {n: v for n, v in os.environ.items() if n not in switches and not n.startswith(("XDG_", "PYTEST", "CI"))}
    own = {
        "HOME": folder / "home",
        "USERPROFILE": folder / "home",
        "TMPDIR": folder / "tmp",
        "RAY_TMPDIR": folder / "tmp",
        "DIPTYCH_CACHE": folder / "work" / "cache",
        "RECORD": folder / "record",
        "PYTHONPATH": f"{SUPPORT / 'recorder'}{os.pathsep}{SUPPORT}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    traced = [*TRACE, str(folder / "trace")] if shutil.which("strace") else []
    done = subprocess.run(
        [*traced, sys.executable, str(SUPPORT / "private_runs.py"), program, str(folder / "work")],
        cwd=folder / "work",
        env=kept | {name: str(value) for name, value in own.items()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1700,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return Record(
        program,
        (folder / "record").read_text().splitlines(),
        CALL.findall((folder / "trace").read_text()) if traced else None,
        {path.relative_to(folder / "home").as_posix() for path in (folder / "home").rglob("*")},
        folder,
    )


def _is_own(host: str) -> bool:
    """Whether an address is this machine's: Ray's processes talk to one another by it."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as own:
        try:
            own.bind((host, 0))
        except OSError:
            return False
    return True


def test_nobody_is_looked_up_or_connected_to(record: Record) -> None:
    asked = {line.removeprefix("network ") for line in record.lines if line.startswith("network ")}
    if record.program == "ray":
        asked = {one for one in asked if not any(name in one for name in ASKED_BY_RAY)}
    hosts = {one.strip("('").partition("'")[0] for one in asked}
    assert not {host for host in hosts if not re.fullmatch(r"[0-9.]+|[0-9a-f:]+", host) or not _is_own(host)}


def test_the_home_folder_holds_nothing_of_others(record: Record) -> None:
    left = {path for path in record.home if path != ".cache" and not f"{path}/".startswith(OWN)}
    assert left <= (OF_RAY if record.program == "ray" else set())


def test_files_are_written_to_the_given_folders_alone(record: Record) -> None:
    written = {line.removeprefix("write ") for line in record.lines if line.startswith("write ")}
    allowed: tuple[str, ...] = (str(record.folder / "work"), str(record.folder / "tmp"))
    elsewhere = ("/dev/", "/proc/", *IN_TEMP)  # but for what is in the folder, which may itself be beneath /dev/shm
    home = record.folder / "home"
    allowed += (str(home / OWN),) if record.program != "ray" else (str(home / ".ray"),)
    written -= {str(home / ".cache"), str(home / OWN)}
    written = {path for path in written if not path.startswith(allowed)}
    assert not {path for path in written if path.startswith(str(record.folder)) or not path.startswith(elsewhere)}
    assert record.lines, "nothing was recorded"


def test_native_libraries_connect_to_nobody(record: Record) -> None:
    if record.calls is None:
        pytest.skip("strace is not installed: what native libraries do is seen in the home folder alone")
    calls = {(host, port) for port, host in record.calls if port != "0" and not _is_own(host)}
    if record.program == "ray":  # the lookup of the cloud, too
        calls = {(host, port) for host, port in calls if port != "53" and host not in ASKED_BY_RAY}
    assert not calls


def test_the_recorder_sees_what_a_library_does_when_it_is_not_switched_off(tmp_path: Path) -> None:
    """Else the tests above could not fail."""
    program = "import haystack, socket\ntry: socket.getaddrinfo('reports.invalid', 443)\nexcept OSError: pass"
    env = {**os.environ, "HOME": str(tmp_path), "RECORD": str(tmp_path / "record")}
    env |= {"PYTHONPATH": str(SUPPORT / "recorder"), "HAYSTACK_TELEMETRY_ENABLED": "True"}
    subprocess.run([sys.executable, "-c", program], env=env, check=True, timeout=300)
    lines = (tmp_path / "record").read_text()
    assert "network reports.invalid" in lines
    assert f"write {tmp_path}/.haystack/config.yaml" in lines
