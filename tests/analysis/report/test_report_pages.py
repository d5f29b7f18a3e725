"""The pages: complete, self-contained, the same each time, safe against what a file may hold, and legible in Chromium."""

import dataclasses
import pathlib
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from report_cases import CRYSTAL, GAP, METAL, MODULUS, frame, made_run

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from browser import chromium, look

from tfmat.analysis.report import comparison_page, run_page

REGRESSION = ("parity", "residuals", "cumulative", "coverage", "spread", "size", "elements")
BINARY = ("roc", "probabilities", "reliability", "size", "elements")


class Reader(HTMLParser):
    """What a page holds."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.figures: list[str] = []
        self.alternatives: list[str] = []
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        if tag == "figure":
            self.figures.append(found["id"])
        if tag == "img":
            self.alternatives.append(found["alt"])
        self.sources += [found[name] for name in ("src", "srcset") if name in found]


def several():
    """A regression, a logarithmic and a binary target."""
    targets = (GAP, MODULUS, METAL)
    return made_run("several", targets, epochs=3, card="# Card\n\n| target | MAE |\n|---|---|\n| gap | 0.2 |\n")


def expected_figures():
    names = [f"{name}-{target}" for target in ("gap", "modulus") for name in REGRESSION] + [f"{name}-metal" for name in BINARY]
    return sorted(names + [f"learning-{name}" for name in ("loss", "gap", "modulus", "metal")])


@pytest.fixture(scope="module")
def page():
    return run_page(several())


def test_every_figure_is_there_with_a_text(page):
    read = Reader(page)
    assert sorted(read.figures) == expected_figures()
    assert len(read.alternatives) == len(read.figures) and all(len(text) > 30 for text in read.alternatives)
    assert "MAE" in read.alternatives[read.figures.index("parity-gap")]


def test_nothing_is_loaded_from_elsewhere(page):
    read = Reader(page)
    assert read.sources and all(source.startswith("data:image/svg+xml;base64,") for source in read.sources)
    assert not {"script", "link href", "iframe", "object"} & set(read.tags)
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)


def test_the_same_run_gives_the_same_page():
    first, second = (run_page(made_run(uncertain=False, epochs=0)) for _ in range(2))
    assert first == second
    read = Reader(first)
    assert sorted(read.figures) == sorted(f"{name}-gap" for name in REGRESSION if name not in ("coverage", "spread"))
    assert "predicts no uncertainty" in first and "There is no history" in first


def test_tables_have_headers_and_the_worst_stand_first(page):
    tables = re.findall(r"<table.*?</table>", page, re.S)
    assert len(tables) == 8  # error by element and worst rows of each target, classes, the card's
    assert all('<th scope="col"' in table for table in tables)
    worst = next(table for table in tables if 'class="worst"' in table)
    errors = [
        abs(float(cells[2])) for cells in (re.findall(r'<td class="number">([^<]*)</td>', row) for row in worst.split("<tr>")) if cells
    ]
    assert len(errors) == 10 and errors == sorted(errors, reverse=True)
    predictions = several().results[0]
    assert errors[0] == pytest.approx(predictions.errors.max(), rel=1e-3)
    assert re.search(r"<h3>Card</h3>", page), "the card's headings stand below those of the page"


def test_text_of_a_file_is_no_markup():
    predictions = frame()
    predictions["id"] = "<script>alert(1)</script>"
    unit = "$\\frac{<b>}$"
    target = dataclasses.replace(GAP, unit=unit)
    card = "# Card\n\n<img src=x onerror=alert(1)> ![a](http://example.org/a.png) [b](javascript:alert(1))\n"
    made = made_run("<i>run</i>", (target,), predictions, card=card)
    page = run_page(made)
    read = Reader(page)
    assert "script" not in read.tags and "i" not in read.tags and len(read.alternatives) == len(read.figures)
    assert not [source for source in read.sources if not source.startswith("data:")]
    assert "javascript:" not in re.findall(r'href="([^"]*)"', page)


def test_few_rows():
    read = Reader(run_page(made_run(rows=2, epochs=1)))
    assert "parity-gap" in read.figures and "spread-gap" not in read.figures


def test_values_that_are_all_the_same():
    predictions = frame().assign(gap_true=1.0, gap=1.0)
    predictions["gap_uncertainty"] = 0.0
    assert "parity-gap" in Reader(run_page(made_run(predictions=predictions))).figures


def test_predictions_that_are_not_finite_are_told():
    predictions = frame((GAP, MODULUS))
    predictions.loc[:2, "gap"] = np.nan
    predictions.loc[5, "gap_uncertainty"] = np.inf
    predictions.loc[1:, "modulus_true"] = np.nan
    page = run_page(made_run("a", (GAP, MODULUS), predictions))
    assert "3 predictions are not finite; these rows are left out" in page
    assert "1 predicted uncertainties are not positive and finite" in page
    assert "1 of 60 rows have a value of this target." in page and "There are no plots: 1 row with" in page
    assert "parity-gap" in Reader(page).figures and "parity-modulus" not in Reader(page).figures


def test_crystals_show_sites_and_structure():
    page = run_page(made_run(sites=True, inputs={f"m{i}": CRYSTAL for i in range(60)}))
    assert "Error against the number of sites in the cell" in page and page.count("<summary>crystal: ") == 10
    assert "c = 5.0000 Å" in page and " sites</span>" in page


def runs_to_compare():
    noisy = made_run("runs/a-rather-long-name-of-a-run", (GAP, METAL), noise=0.6)
    return [noisy, made_run("runs/b", (GAP, METAL), seed=1), made_run("runs/c", (GAP, METAL), seed=2, epochs=0)]


def test_comparison_page():
    page = comparison_page(runs_to_compare())
    names = [f"{name}-{target}" for target in ("gap", "metal") for name in ("means", "differences", "distribution", "validation")]
    assert Reader(page).figures == names
    assert "5,000 bootstrap resamples" in page and "60 common rows: 60 of 60 of A" in page and "B&nbsp;−&nbsp;A" in page
    assert "B is better" in page and not re.search(r"https?://", page)


@pytest.fixture(scope="module")
def pages(tmp_path_factory, page) -> dict[str, pathlib.Path]:
    folder = tmp_path_factory.mktemp("pages")
    crystals = made_run(sites=True, inputs={f"m{i}": CRYSTAL for i in range(60)}, card=f"# {'a_long_word_' * 20}\n")
    texts = {"run": page, "crystals": run_page(crystals), "comparison": comparison_page(runs_to_compare())}
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in texts}


def test_in_chromium(pages):
    with chromium() as browser:
        for name, file in pages.items():
            figures = Reader(file.read_text(encoding="utf-8")).figures
            for width in (1280, 400):
                seen = look(browser, file, width)
                assert seen["messages"] == [] and seen["outside"] == [], (name, width)
                assert seen["scroll"] <= width and seen["wide"] == 0, (name, width)
                assert name != "crystals" or seen["pre"] > 300, (name, width)
                assert list(seen["figures"]) == figures, (name, width)
                for figure, image in seen["figures"].items():
                    assert image["natural"] > 0 and image["alt"], (name, width, figure)
                    assert image["width"] > 300 and image["height"] > 200, (name, width, figure)
                    assert image["width"] / image["natural"] > 0.75, f"{figure}: text is too small at {width} pixels"
        light, dark = (look(browser, pages["run"], 400, scheme)["back"] for scheme in ("light", "dark"))
        assert light == "rgb(255, 255, 255)" and dark != light
