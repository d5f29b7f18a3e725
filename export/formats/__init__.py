"""One module per format that a model can be exported in, and what they share."""
