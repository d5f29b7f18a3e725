"""Explanations: which elements of a formula, or sites of a crystal, a prediction comes from."""

from tfmat.analysis.explain.explanation import Contributions, Explainer, Explanation, explain

__all__ = ["Contributions", "Explainer", "Explanation", "explain"]
