"""What a trained model is on disk: its files, its card, and how another model starts from it."""
