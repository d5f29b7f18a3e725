"""What a trained model has learnt, and how good it is: plots, explanations, CECV, reports, baselines."""
