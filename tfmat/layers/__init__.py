"""Keras layers shared by the architectures, written with `keras.ops` alone: one file per family."""
