"""``tfmat cache``: featurized data and parsed crystals that are kept on disk."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Annotated

import typer

from tfmat.cli.tables import aligned
from tfmat.errors import InputError

if TYPE_CHECKING:
    from tfmat.data.cache import CacheEntry

app = typer.Typer(rich_markup_mode=None, add_completion=False, invoke_without_command=True)
_SHORT = 12


@app.callback()
def cache(ctx: typer.Context) -> None:
    """List or clear the featurized data and parsed crystals that are kept in TFMAT_CACHE_DIR (~/.cache/tfmat/records).

    \b
    Examples:
      tfmat cache list
      tfmat cache clear
    """  # noqa: D301
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


@app.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List what is kept, the newest first.

    \b
    Examples:
      tfmat cache list
      tfmat cache list --json
    """  # noqa: D301
    from tfmat.cli.datasets import size
    from tfmat.data.cache import RecordCache

    kept = RecordCache()
    entries = kept.entries()
    if as_json:
        print(json.dumps([{**entry.__dict__, "path": str(entry.path)} for entry in entries], indent=2))
        return
    if entries:
        rows = [[entry.key[:_SHORT], entry.featurizer, f"{entry.rows:,}", size(entry.size), _day(entry), entry.source] for entry in entries]
        print(aligned(["key", "made by", "rows", "size", "created", "from"], rows, right=[2, 3]))
        print()
    print(f"{_entries(len(entries))}, {size(sum(entry.size for entry in entries))}, in {kept.directory}")


@app.command()
def clear(
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="KEY...", help="Of `tfmat cache list`, or how they begin. Default: all.")
    ] = None,
) -> None:
    """Remove entries; data is featurized again when next needed.

    \b
    Examples:
      tfmat cache clear
      tfmat cache clear 3f9a01bc77e2
    """  # noqa: D301
    from tfmat.cli.datasets import size
    from tfmat.data.cache import RecordCache

    kept = RecordCache()
    chosen = None if not keys else _matching(keys, [entry.key for entry in kept.entries()])
    count, freed = kept.clear(chosen)
    print(f"{_entries(count)} removed from {kept.directory}, {size(freed)} freed")


def _matching(wanted: list[str], known: list[str]) -> list[str]:
    chosen = []
    for text in wanted:
        found = [key for key in known if text and key.startswith(text.lower())]
        if not found:
            raise InputError(f"no entry {text[:64]!r} in the cache", expected="a key of `tfmat cache list`")
        chosen += found
    return chosen


def _day(entry: CacheEntry) -> str:
    return datetime.datetime.fromtimestamp(entry.created).strftime("%Y-%m-%d %H:%M")


def _entries(count: int) -> str:
    return f"{count:,} {'entry' if count == 1 else 'entries'}"
