"""Hyper-parameter search with KerasTuner.

Empty so far: the search spaces of the architectures and the search itself come with the tuning work.
"""
