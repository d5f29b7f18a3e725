"""``key=value`` options, checked against the types of what they set, and names with close matches."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from tfmat.errors import InputError

if TYPE_CHECKING:
    from tfmat.architecture import Architecture
    from tfmat.training.recipe import Recipe


def stated(**options: Any) -> dict[str, Any]:
    """Leave out the options that are not given, None."""
    return {name: value for name, value in options.items() if value is not None}


def known(kind: str, name: str, names: Iterable[str]) -> str:
    """Return `name` if it is one of `names`; the error otherwise tells close matches."""
    names = list(names)
    if name in names:
        return name
    close = difflib.get_close_matches(name.lower(), names, n=3)
    hint = f" (did you mean {' or '.join(close)}?)" if close else ""
    raise InputError(f"unknown {kind} {name[:60]!r}{hint}", expected=f"one of {', '.join(names)}" if names else "none")


def pairs(options: Sequence[str], option: str) -> dict[str, str]:
    """Split each ``key=value``: ``["dim=32"]`` gives ``{"dim": "32"}``. An error names `option`, such as ``--set``."""
    found: dict[str, str] = {}
    for text in options:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InputError(f"{option} {text[:60]!r} sets nothing", expected=f"{option} KEY=VALUE")
        if key.strip() in found:
            raise InputError(f"{option} sets {key.strip()!r} twice")
        found[key.strip()] = value.strip()
    return found


def builder_keywords(architecture: Architecture, variant: str | None, options: Sequence[str]) -> dict[str, Any]:
    """Take the keywords of a variant (None: of no one) and change them by ``--set`` options, with values in JSON or else text."""
    chosen = {} if variant is None else architecture.variant(known(f"variant of {architecture.name}", variant, architecture.variants))
    return chosen | _keywords(architecture, pairs(options, "--set"))


def checked_keywords(architecture: Architecture, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Check that the builder keywords of a JSON file exist and are of the right types."""
    return _keywords(architecture, {key: json.dumps(value) for key, value in keywords.items()})


def _keywords(architecture: Architecture, texts: Mapping[str, str]) -> dict[str, Any]:
    hints, names = _hints(architecture.builder), list(architecture.default_keywords())
    return {key: typed(known(f"keyword of {architecture.name}", key, names), text, hints.get(key, Any)) for key, text in texts.items()}


def changed_recipe(recipe: Recipe, options: Sequence[str], **values: Any) -> Recipe:
    """Change single values of a recipe: first by ``--recipe-option`` options, then by those of `values` that are not None."""
    return _recipe(recipe, pairs(options, "--recipe-option"), {key: value for key, value in values.items() if value is not None})


def checked_recipe(recipe: Recipe, fields: Mapping[str, Any]) -> Recipe:
    """Change the fields of a recipe that a JSON file names, once they exist and are of the right types."""
    texts = {key: json.dumps(value) for key, value in fields.items() if key != "rates"}
    return _recipe(recipe, texts, {key: value for key, value in fields.items() if key == "rates"})


def _recipe(recipe: Recipe, texts: Mapping[str, str], values: dict[str, Any]) -> Recipe:
    hints, names = _hints(type(recipe)), [field.name for field in dataclasses.fields(recipe)]
    changes = {known("recipe option", key, names): typed(key, text, hints[key]) for key, text in texts.items()}
    try:
        return dataclasses.replace(recipe, **changes | values)
    except (ValueError, TypeError) as error:
        raise InputError(str(error)) from None


def layer_rates(options: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """Read ``["head=1", "block*=0.1"]`` as pairs of a pattern and a factor, in their order."""
    found = []
    for pattern, text in pairs(options, "--rate").items():
        factor = typed(pattern, text, float)
        if not 0 <= factor < math.inf:
            raise InputError(f"--rate {pattern}={text[:60]} is no factor", expected="a number from 0 on")
        found.append((pattern, float(factor)))
    return tuple(found)


def typed(key: str, text: str, annotation: Any) -> Any:
    """Read the value that `text` stands for, which must fit the type; a list may be written with commas."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if _is_sequence(annotation) and not isinstance(value, list):
        value = [_scalar(part.strip()) for part in text.split(",") if part.strip()]
    for candidate in (value, text):
        if _fits(candidate, annotation):
            return tuple(candidate) if get_origin(annotation) is tuple else candidate
    raise InputError(f"{key} = {text[:60]!r} is not {_describe(annotation)}", expected=f"{key}={_describe(annotation)}")


def _scalar(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _hints(owner: Callable[..., Any]) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(owner)
    except NameError:  # a name that is imported for type checkers only
        return {}


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _is_sequence(annotation: Any) -> bool:
    return any(map(_is_sequence, get_args(annotation))) if _is_union(annotation) else get_origin(annotation) in _SEQUENCES


_SEQUENCES = (Sequence, list, tuple)
_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "null"}


def _fits(value: Any, annotation: Any) -> bool:
    if _is_union(annotation):
        return any(_fits(value, part) for part in get_args(annotation))
    if get_origin(annotation) is Literal:
        return any(type(value) is type(part) and value == part for part in get_args(annotation))
    if get_origin(annotation) is tuple and Ellipsis not in get_args(annotation):
        parts = get_args(annotation)
        return isinstance(value, list) and len(value) == len(parts) and all(map(_fits, value, parts))
    if get_origin(annotation) in _SEQUENCES:
        return isinstance(value, list) and all(_fits(item, get_args(annotation)[0]) for item in value)
    if annotation in (int, float):
        return isinstance(value, (int, annotation)) and not isinstance(value, bool)
    return isinstance(value, annotation) if annotation in _NAMES else True


def _describe(annotation: Any) -> str:
    if _is_union(annotation):
        return " or ".join(map(_describe, get_args(annotation)))
    if get_origin(annotation) is Literal:
        return " or ".join(map(str, get_args(annotation)))
    if get_origin(annotation) in _SEQUENCES:
        return f"a list of {_describe(get_args(annotation)[0])}, separated by commas"
    return _NAMES.get(annotation, "such a value")
