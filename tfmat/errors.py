"""The one error that a user's input can cause.

The command line turns an `InputError` into one line on stderr and exit code 2; library users catch it as a `ValueError`.
"""

from __future__ import annotations


class InputError(ValueError):
    """Bad input, told in one line: where it stands, what is wrong, what was expected.

    Args:
        problem: what is wrong, without a final full stop, e.g. ``unknown element 'Xx' in formula 'Xx2O3'``.
        expected: what would have been right, e.g. ``a symbol from H to Og``.
        file: the file (or dataset) that holds it.
        row: the row in that file, counted as a spreadsheet counts: the header is row 1.
        index: position in the list that was passed, where there is no file (0-based).
    """

    def __init__(
        self,
        problem: str,
        *,
        expected: str | None = None,
        file: str | None = None,
        row: int | None = None,
        index: int | None = None,
    ) -> None:
        self.problem, self.expected, self.file, self.row, self.index = problem, expected, file, row, index
        super().__init__(problem)

    def located(self, *, file: str | None = None, row: int | None = None) -> InputError:
        """The same problem with the place where it was found."""
        return InputError(self.problem, expected=self.expected, file=file or self.file, row=row or self.row, index=self.index)

    def __str__(self) -> str:
        place = [str(self.file)] if self.file is not None else []
        if self.row is not None:
            place.append(f"row {self.row}")
        elif self.index is not None and self.file is None:
            place.append(f"item {self.index}")
        text = ", ".join(place) + ": " if place else ""
        text += self.problem
        if self.expected:
            text += f". Expected {self.expected}"
        return " ".join(text.split())
