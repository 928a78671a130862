"""Debian packages whose manual pages make the collection, and how they are fetched; nothing is installed."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

READER = "mandoc"
# The licence of the pages, or of the whole where a package's /usr/share/doc/*/copyright does not tell them apart.
PACKAGES = {
    "apt": "GPL-2+",
    "bash": "GPL-3+",
    "btrfs-progs": "GPL-2",
    "coreutils": "GPL-3+",
    "cryptsetup-bin": "GPL-2+",
    "curl": "curl (as MIT/X11)",
    "debhelper": "GPL-2+",
    "dpkg": "GPL-2+",
    "dpkg-dev": "GPL-2+",
    "e2fsprogs": "GPL-2",
    "erlang-manpages": "Apache-2.0",
    "ffmpeg": "LGPL-2.1+",
    "git-man": "GPL-2",
    "groff": "GPL-3+",
    "iproute2": "GPL-2",
    "libcurl4-doc": "curl (as MIT/X11)",
    "libssl-doc": "Apache-2.0",
    "linux-perf": "GPL-2",
    "lvm2": "GPL-2",
    "manpages": "Linux-man-pages-copyleft, GPL-2+, BSD and others by page",
    "manpages-dev": "Linux-man-pages-copyleft, GPL-2+, BSD and others by page",
    "ncurses-doc": "MIT/X11",
    "openssh-client": "OpenSSH (BSD)",
    "openssl": "Apache-2.0",
    "perl-doc": "GPL-1+ or Artistic",
    "postfix": "IPL-1.0 or EPL-2.0",
    "postgresql-client-15": "PostgreSQL",
    "rsync": "GPL-3+",
    "samba-common-bin": "GPL-3+",
    "systemd": "LGPL-2.1+",
    "tcl8.6-doc": "Tcl (BSD)",
    "tmux": "ISC",
    "util-linux": "GPL-2+",
    "zsh-common": "Zsh (as MIT)",
}


@dataclass(frozen=True, slots=True)
class Package:
    """A package as it was fetched and unpacked."""

    name: str
    version: str
    sha256: str
    folder: Path  # of its files

    def sources(self) -> Iterator[Path]:
        """Its manual pages, by name; other names of a page, which are links, are left out."""
        for file in sorted(self.folder.glob("usr/share/**/man/man*/*.gz"), key=lambda file: file.name):
            if file.is_file() and not file.is_symlink():
                yield file


def fetch_package(name: str, folder: Path) -> Package:
    """The package of that name in the version that apt knows, unpacked below `folder`; kept from an earlier call.

    Raises:
        CalledProcessError: apt has no such package, or no network.
    """
    place = folder / name
    if not (place / "deb").is_dir():
        shutil.rmtree(place, ignore_errors=True)
        fresh = folder / f"{name}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        (fresh / "deb").mkdir(parents=True)
        subprocess.run(["apt-get", "-q", "download", name], cwd=fresh / "deb", check=True, capture_output=True)
        subprocess.run(["dpkg-deb", "-x", str(_only(fresh / "deb")), str(fresh / "files")], check=True)
        fresh.rename(place)
    deb = _only(place / "deb")
    version = subprocess.run(["dpkg-deb", "-f", str(deb), "Version"], check=True, capture_output=True, text=True).stdout
    return Package(name, version.strip(), hashlib.sha256(deb.read_bytes()).hexdigest(), place / "files")


def _only(folder: Path) -> Path:
    (file,) = folder.glob("*.deb")
    return file
