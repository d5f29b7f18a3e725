"""What an exported model takes, one module per featurizer."""
