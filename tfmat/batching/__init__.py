"""From featurized records to the batches that a model is fitted and asked with.

`plan` says which examples form which batch, `arrays` makes the arrays of one, `pipeline` feeds them to Keras.
"""
