"""Fitting a model: the loop, its recipe, losses, optimizers, callbacks and devices."""
