"""Web pages about trained models: one run in detail, or several on the same rows. Needs the ``report`` extra."""

from tfmat.analysis.report.comparison import Paired, compare
from tfmat.analysis.report.pages import comparison_page, run_page
from tfmat.analysis.report.results import Result, Run

__all__ = ["Paired", "Result", "Run", "compare", "comparison_page", "run_page"]
