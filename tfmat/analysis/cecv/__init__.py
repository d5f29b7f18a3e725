"""CECV: how many chemical environments of an element a model of compositions tells apart, as a function of a tolerance."""

from tfmat.analysis.cecv.clustering import Clustering, count_clusters
from tfmat.analysis.cecv.environments import Environment, environment
from tfmat.analysis.cecv.vector import CECV, TOLERANCES, cecv

__all__ = ["CECV", "Clustering", "Environment", "TOLERANCES", "cecv", "count_clusters", "environment"]
