"""`MediaConfig`: where media are read from, which parts of them are stored, and how large they may be."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field, field_validator

PILLOW_LIMIT = 89_478_485  # pixels; beyond it Pillow itself warns of a decompression bomb
_HOST = re.compile(r"(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_Limit = Annotated[int, Field(ge=1)]


class MediaConfig(BaseModel):
    """Pictures, sounds, clips, series and point clouds of documents and queries."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    root: str = Field(".", description="Folder of media, relative to the config file; paths outside it are rejected.")
    store: Literal["reference", "thumbnail", "bytes"] = Field(
        "reference", description="What payloads hold: digest and path; also a thumbnail; or also all bytes."
    )
    hosts: list[str] = Field([], description="Hosts allowed in https URLs, as host or host:port; empty allows none.")
    max_bytes: ByteSize = Field(ByteSize(50_000_000), gt=0, description="Maximum file or download size, such as 50MB.")
    max_pixels: Annotated[int, Field(ge=1, le=PILLOW_LIMIT)] = Field(
        40_000_000, description="Maximum pixels of an image or frame; all frames of a clip may have five times as many."
    )
    max_seconds: Annotated[float, Field(gt=0)] = Field(3600, description="Maximum seconds of a sound.")
    max_frames: _Limit = Field(2000, description="Maximum frames of a clip.")
    max_values: _Limit = Field(10_000_000, description="Maximum numbers of a series or point cloud.")

    @field_validator("hosts")
    @classmethod
    def _are_hosts(cls, hosts: list[str]) -> list[str]:
        """Lower-case names without scheme or path."""
        for host in hosts:
            if not _HOST.fullmatch(host.lower()):
                raise ValueError(f"a host such as images.example.com or images.example.com:8443, got {host!r}")
        return [host.lower() for host in hosts]
