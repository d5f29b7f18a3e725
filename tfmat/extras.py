"""Packages that only some of tfmat needs: asked for where the work begins, and named with the extra that installs them."""

from __future__ import annotations

import importlib.util

from tfmat.errors import InputError


def require(extra: str, purpose: str, *modules: str) -> None:
    """Refuse to go on without the modules.

    Args:
        extra: of tfmat, which installs them.
        purpose: what needs them, the beginning of a sentence.
        modules: top-level names, as they are imported.

    Raises:
        InputError: one of them is not installed.
    """
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    if absent:
        problem = f"{purpose} needs {' and '.join(absent)}, which {'is' if len(absent) == 1 else 'are'} not installed"
        raise InputError(problem, expected=f"pip install 'tfmat[{extra}]'")
