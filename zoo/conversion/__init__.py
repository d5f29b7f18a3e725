"""Published weights of other packages as tfmat models: read as data, never by running the package or unpickling anything.

`megnet_hdf5.read_megnet` and `matgl_state.read_matgl` return a `foreign.ForeignModel`, which `foreign.write` turns into an ordinary model
directory. `published` holds what is known about the published files.
"""
