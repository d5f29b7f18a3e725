"""Formulas as chemists write them -> amounts of the elements. What may be another compound is refused."""

from __future__ import annotations

import re

from tfmat.elements import ATOMIC_NUMBERS
from tfmat.errors import InputError

MAX_CHARACTERS = 1000
"""A longer formula is refused unread."""
AMOUNTS = (1e-8, 1e8)
"""Amounts outside this range are refused. pymatgen drops those below 1e-8 silently."""
MOLECULES = ("H2O", "D2O", "T2O", "HDO", "OH2", "H2O2", "NH3", "ND3", "N2H4", "H2S", "HCl", "HF", "HBr", "HI", "HNO3", "H2SO4", "H3PO4")
"""What is bound in crystals as a molecule: behind ``.6``, each is six molecules, however the rest reads."""

_NUMBER = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_TOKEN = re.compile(rf"([A-Z][a-z]*)\s*({_NUMBER})?|([(\[{{])|([)\]}}])\s*({_NUMBER})?|[\s@]+|(.)", re.DOTALL)
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_RAISED = "·•∙⋅*"
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789", "\u200b\u2060\ufeff")
_OXIDATION = re.compile(r"(?<=[A-Za-z])\((?:II|III|IV|VI|VII|VIII)\)")
_DOT = re.compile(r"(?P<before>[0-9]*)\s*\.\s*(?P<number>[0-9]+(?:\.[0-9]+)?)?\s*(?=[A-Z(\[{])")
_SPACED = re.compile(r"(?<=[A-Za-z0-9)\]}])\s+(?P<number>[0-9]+(?:\.[0-9]+)?)(?P<behind>\s*)(?=[A-Z(\[{])")
_UNIT = re.compile(rf"((?:[A-Z][a-z]?[0-9]*|[(\[{{]|[)\]}}][0-9]*)+)(?=\s*(?:$|[.{_RAISED}]))")
_MULTIPLIER = re.compile(r"\s*([0-9]+\.?[0-9]*|\.[0-9]+)(?:/([1-9][0-9]*))?")
_TWO_MEANINGS = (
    (re.compile(r"^\s*(?:YBCO|BSCCO|TBCCO|BFO|(?![HD]TO)[A-Z]*T[A-Z]+|[A-SU-Z]{2,}T)\s*$"), "an abbreviation or elements", "the formula"),
    (re.compile(r"T[BCHI](?![a-z])"), "one element or tritium and another", "Ti for titanium"),
    (re.compile(r"@\s*(?=[A-Z(\[])(?!C[0-9]{2})"), "a cage or a composite", "the formula of one compound"),
    (re.compile(r"(?<=[A-Za-z])\([IV]\)"), "an oxidation state or an element", "Cu2O or CuI2, say"),
    (re.compile(r"(?<=[A-Za-z])(?:II(?![a-z])|(?:IV|VI)(?![a-z0-9]))"), "an oxidation state or iodine", "FeO or FeI2, say"),
    (re.compile(r"(?<=\S)\s*\([BCDHIOPTVW]\)\s*$"), "a phase or an element", "the formula alone: ZnS, not ZnS (W)"),
    (re.compile(r"OAc(?![a-z])|\(OPr\)"), "an organic group or an element", "all its atoms: Zn(CH3COO)2"),
)
_MOST_MOLECULES = 30
"""More of them behind a dot are taken for decimals."""


def parse_formula(formula: str) -> dict[str, float]:
    """Amounts of the elements in a formula, in order of first appearance: ``"Li(CoO2)2"`` -> ``{"Li": 1.0, "Co": 2.0, "O": 4.0}``.

    - An element symbol may be followed by its amount: ``2``, ``0.5``, ``.5``, ``1e-2``. Without one it is 1.
    - ``()``, ``[]`` and ``{}`` group, may be nested, and may be followed by a multiplier.
    - A repeated symbol adds up. Amounts are not reduced. ``D`` and ``T`` are kept as they stand.
    - White space is ignored between symbols, groups and numbers, not inside them; the ``@`` of a cage (``Y3N@C80``) is ignored likewise.
    - Subscripts (``Fe₂O₃``) are numbers. An oxidation state of two or more letters, ``Fe(II)``, is left out.
    - A raised dot or ``*`` joins compounds, of which each may have a multiplier: ``3CaO·Al2O3``, ``CaSO4·0.5H2O``.

    A dot on the line is a decimal point or joins compounds, too. It joins where no number can be meant (``LiCl.H2O``,
    ``Na0.35CoO2.1.3H2O``), before water, ammonia and the other `MOLECULES`, and before a compound that ends in the element in front of
    the dot: ``CuSO4.5H2O``, ``AlCl3.6NH3``, ``BaO.6Fe2O3``. The same holds for a number behind a space: ``NaBr 2H2O``. Otherwise it is a
    decimal point: ``Li1.3Al0.3Ti1.7(PO4)3``, ``Ba.6K.4BiO3``.

    Whatever may be another compound is refused, with the reason:

    - a dot or space with a number that may mean either: ``Li1.5H2O``, ``MgBr2.3C4H8O``, ``Fe 2O3``;
    - ``Cu(I)2O`` and ``FeIIO`` (an oxidation state or iodine?), ``GaN(W)`` (wurtzite or tungsten?), ``Zn(OAc)2`` (acetate or actinium?),
      ``TIO2`` and ``YBCO`` (tritium? boron?), ``Fe3O4@SiO2`` (a composite);
    - variables (``Ba1-xSrxTiO3``), alloys and mixtures joined by ``-`` or ``,``, charges, raised digits, isotopes such as ``7Li``;
    - an amount that is zero (pymatgen drops the element), negative, or outside 1e-8 to 1e8;
    - a symbol that is no element (pymatgen reads ``Xx`` as a dummy species), a group closed by another kind of bracket;
    - more than 1,000 characters.

    Raises:
        InputError: the formula cannot be read; the message names it, shortened to 60 characters.
    """
    if not isinstance(formula, str):
        raise InputError(f"{short(formula)} is not a formula", expected="text such as 'Fe2O3'")
    if len(formula) > MAX_CHARACTERS:
        raise bad_formula(formula, f"is {len(formula):,} characters long", f"at most {MAX_CHARACTERS:,}")
    if not formula.strip():
        raise InputError("the formula is empty", expected="text such as 'Fe2O3'")
    parts = _parts(formula)
    amounts = parts[0] if len(parts) == 1 else {}
    for part in parts if len(parts) > 1 else ():
        for symbol, amount in part.items():
            amounts[symbol] = amounts.get(symbol, 0.0) + amount
    for symbol, amount in amounts.items():
        if symbol not in ATOMIC_NUMBERS:
            raise bad_formula(formula, f"holds the unknown element {short(symbol)}", "symbols from H to Og")
        if amount <= 0:
            raise bad_formula(formula, f"has a negative or zero amount of {symbol}", "positive amounts")
        if not AMOUNTS[0] <= amount <= AMOUNTS[1]:
            raise bad_formula(formula, f"has {amount:g} of {symbol}", f"amounts from {AMOUNTS[0]:g} to {AMOUNTS[1]:g}")
    if not amounts:
        raise bad_formula(formula, "holds no element", "text such as 'Fe2O3'")
    return amounts


def _parts(formula: str) -> list[dict[str, float]]:
    """The amounts of each of the compounds that are joined, unchecked."""
    text = formula.translate(_SUBSCRIPTS)
    text = _OXIDATION.sub("", text)
    for pattern, meanings, expected in _TWO_MEANINGS:
        found = pattern.search(text)
        if found:
            raise bad_formula(formula, f"is ambiguous: {found[0].strip()} may be {meanings}", expected)
    if text.isalnum():
        return [_add_up(formula, text, 0)]
    text = _SPACED.sub(lambda match: _spaced(match, formula), text)
    text = _DOT.sub(lambda match: _dotted(match, formula), text)
    pieces = re.split(f"[{_RAISED}]", text)
    if len(pieces) == 1:
        return [_add_up(formula, text, 0)]
    found_parts, start = [], 0
    for piece in pieces:
        if not piece.strip() or _depth(piece):
            raise bad_formula(formula, f"holds {text[start - 1 if start else len(piece)]!r}", "compounds on both sides, as in CuSO4·5H2O")
        number = _MULTIPLIER.match(piece)
        factor = float(number[1]) / float(number[2] or 1) if number else 1.0
        skipped = number.end() if number else 0
        amounts = _add_up(formula, piece[skipped:], start + skipped)
        found_parts.append({symbol: factor * amount for symbol, amount in amounts.items()})
        start += len(piece) + 1
    return found_parts


def _dotted(match: re.Match[str], formula: str) -> str:
    """The text of a dot and the number behind it, with a raised dot where it joins compounds."""
    before, number = match["before"], match["number"]
    head = match.string[: match.start()] + before
    joined = match[0].replace(".", "·", 1)
    if number is None:
        return match[0] if _depth(head) else joined
    apart = " " in match[0].strip() or match[0] != match[0].lstrip() or "." in number
    if not apart and (before.startswith("0") or number.startswith("0")):
        return match[0]
    joins = _joins(head, before, number, match.string[match.end() :])
    if joins and not _depth(head):
        return joined
    if joins is False and not apart:
        return match[0]
    raise _ambiguous(formula, "the dot may be a decimal point or join compounds")


def _spaced(match: re.Match[str], formula: str) -> str:
    """The text of a space and the number behind it, with a raised dot where it joins compounds."""
    head = match.string[: match.start()]
    joins = _joins(head, "", match["number"], match.string[match.end() :])
    if joins and not _depth(head):
        return "·" + match[0][1:]
    if joins is False and match["behind"] and not head[-1].isdigit():
        return match[0]
    raise _ambiguous(formula, f"{match['number']} may belong to what stands before or behind it")


def _joins(head: str, before: str, number: str, tail: str) -> bool | None:
    """Tell whether a dot or a space joins what stands in front of it to `number` times what follows; `None` where it may and may not.

    Args:
        head: in front of the dot, with the digits `before` it.
        before: digits directly before the dot.
        number: behind it.
        tail: behind the number.
    """
    symbols = re.findall(r"[A-Z][a-z]?", head)
    unit = _UNIT.match(tail)
    inside = re.findall(r"[A-Z][a-z]?", unit[1]) if unit else []
    last = symbols[-1] if symbols else ""
    alike = len(set(inside)) > 1 and inside[-1] == last and not re.search(r"[A-Za-z)\]}]0", unit[1] if unit else "")
    if unit and (unit[1].strip("()") in MOLECULES or alike):
        plain = len(set(symbols)) > 1 and before != "1" and float(number) <= _MOST_MOLECULES
        return True if plain else None
    if {"C", "H"} <= set(inside) <= {"C", "H", "N", "O", "S", "D"}:
        return None
    follows_element = re.search(r"[A-Z][a-z]?[0-9]*$", head)
    return None if follows_element and last in re.findall(r"[A-Z][a-z]?", tail) else False


def _depth(text: str) -> int:
    return sum(text.count(bracket) for bracket in "([{") - sum(text.count(bracket) for bracket in ")]}")


def _ambiguous(formula: str, problem: str) -> InputError:
    expected = "CuSO4·5H2O or CuSO4(H2O)5 for a hydrate, all atoms added up otherwise"
    return bad_formula(formula, f"is ambiguous: {problem}", expected)


def _add_up(formula: str, text: str, start: int) -> dict[str, float]:
    """Symbol -> amount in `text`, which stands at `start` in the formula, unchecked; brackets must match."""
    groups: list[dict[str, float]] = [{}]
    awaited: list[str] = []
    for match in _TOKEN.finditer(text):
        symbol, number, opening, closing, multiplier, other = match.groups()
        if symbol:
            groups[-1][symbol] = groups[-1].get(symbol, 0.0) + (float(number) if number else 1.0)
        elif opening:
            groups.append({})
            awaited.append(_CLOSING[opening])
        elif closing:
            if not awaited or awaited.pop() != closing:
                raise bad_formula(formula, f"has unbalanced brackets at {closing!r}", "every bracket closed by its like")
            inner, factor = groups.pop(), float(multiplier) if multiplier else 1.0
            if not inner:
                raise bad_formula(formula, "has empty brackets", "element symbols between them")
            for inside, amount in inner.items():
                groups[-1][inside] = groups[-1].get(inside, 0.0) + amount * factor
        elif other:
            raise _unexpected(formula, other, start + match.start())
    if awaited:
        raise bad_formula(formula, f"has unbalanced brackets: no {awaited[-1]!r}", "every bracket closed by its like")
    return groups[0]


def _unexpected(formula: str, character: str, position: int) -> InputError:
    """The error for a character that no formula holds, with what it probably means."""
    if re.search(r"[-+−–±]\s*[0-9.]*[a-zδε]|[0-9.(][xyzδ]|[.·]\s*[nx]", formula):
        return bad_formula(formula, "holds a variable amount", "numbers, such as Ba0.7Sr0.3TiO3")
    if character in "-−–" and re.search(r"[-−–]\s*[0-9.]*%?\s*[A-Z(\[]", formula):
        problem = f"holds {character!r}: a negative amount, or an alloy or mixture whose amounts are not those of atoms"
        return bad_formula(formula, problem, "the atoms of each element, such as Ti0.86Al0.1V0.04")
    if character in "-−–" and re.search(r"^[A-Z][a-z]?[-−–][0-9]+$", formula):
        return bad_formula(formula, "names an isotope", "the element alone, such as Li")
    if character in "+-−–^⁺⁻":
        return bad_formula(formula, f"holds {character!r}: charges and oxidation states are not read", "a formula without charges: Fe2O3")
    if character in ",;":
        return bad_formula(formula, f"holds {character!r}", "the amount of each element, such as Mg0.9Fe0.1")
    return bad_formula(
        formula, f"holds {character!r} at character {position + 1}", "element symbols, numbers and brackets, such as Ca(OH)2"
    )


def short(value: object) -> str:
    """A value as text, shortened for a message."""
    text = repr(value)
    return text if len(text) <= 62 else f"{text[:57]}...{text[0] if isinstance(value, str) else ''}"


def bad_formula(formula: str, problem: str, expected: str) -> InputError:
    """An error about a formula, which it names."""
    return InputError(f"formula {short(formula if len(formula) <= 60 else formula[:57] + '...')} {problem}", expected=expected)
