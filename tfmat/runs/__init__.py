"""Training and evaluating as a whole: from settings to a folder with everything that was found."""
