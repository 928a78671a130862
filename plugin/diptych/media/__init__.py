"""Media of documents and queries: pictures, sounds and clips.

Begin with `values`, which the other parts of diptych pass around. `MediaStore` takes what users give and decodes it for
encoders: `read` gets the bytes of files and URLs, `decode` decodes them within the limits of `MediaConfig`. No decoder
is imported before something is decoded.
"""

from diptych.media.store import MediaStore
from diptych.media.values import (
    MODALITIES,
    Content,
    Media,
    MediaConfig,
    Modality,
    RawMedia,
    Readable,
    Sound,
    from_json,
    from_payload,
    to_json,
)

__all__ = [
    "MODALITIES",
    "Content",
    "Media",
    "MediaConfig",
    "MediaStore",
    "Modality",
    "RawMedia",
    "Readable",
    "Sound",
    "from_json",
    "from_payload",
    "to_json",
]
