"""Memory that large arrays leave is kept for the next ones, instead of being given back to the system and fetched again, page by page."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

SWITCH = "TFMAT_KEEP_MEMORY"
"""Environment variable; 0 switches `keep_memory` off."""
_SETTINGS = {
    -8: 1,  # M_ARENA_MAX: one heap for all threads, because those of other threads end at 64 MB
    -4: 0,  # M_MMAP_MAX: no array is mapped by itself
    -1: -1,  # M_TRIM_THRESHOLD: the end of the heap is never given back
}
"""Parameters of glibc's mallopt, by their numbers in malloc.h."""


def keep_memory() -> bool:
    """Let this process keep the memory that it frees, for arrays to come.

    A training step of Crysformer or L-G-DCNN frees and needs again several hundred megabytes. glibc gives arrays of 32 MB or more, and
    what is free at the end of the heap, back to the system, which clears every page that it hands out anew: a third of the time or more.
    Called before TensorFlow is imported this makes both trainings and predictions 1.5 to 2.4 times as fast; the peak grows by at most a
    tenth, and is held to the end of the process. The command ``tfmat`` calls it; in a script or notebook, whose memory is not tfmat's to
    hold, it is yours to call.

    Nothing happens where malloc is not glibc's (other systems, jemalloc, tcmalloc), where it was set up already (``MALLOC_*`` or
    ``GLIBC_TUNABLES`` in the environment), or with ``TFMAT_KEEP_MEMORY=0``.

    Returns:
        Whether memory is kept.
    """
    if os.environ.get(SWITCH) == "0" or _set_up_already():
        return False
    mallopt = _mallopt()
    return mallopt is not None and all([mallopt(parameter, value) for parameter, value in _SETTINGS.items()])


def _set_up_already() -> bool:
    return any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")


def _mallopt() -> Any:
    """The function of glibc, if its malloc is the one in use."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        used, glibc = ctypes.CDLL(None), ctypes.CDLL("libc.so.6")
        glibc.gnu_get_libc_version  # noqa: B018
        same = _address(used.malloc) == _address(glibc.malloc)
    except (OSError, AttributeError):
        return None
    return glibc.mallopt if same else None


def _address(function: Any) -> int | None:
    return ctypes.cast(function, ctypes.c_void_p).value
