"""Loading models without the libraries' progress bars and advice."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from transformers.utils import logging as transformers_logging


@contextmanager
def quiet() -> Iterator[None]:
    """Loading without progress bars and advice; the libraries' own settings are put back afterwards."""
    logger, library = logging.getLogger("sentence_transformers"), cast(Any, transformers_logging)
    level, verbosity = logger.level, library.get_verbosity()
    bars = library.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    library.set_verbosity_error()
    library.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        library.set_verbosity(verbosity)
        if bars:
            library.enable_progress_bar()
