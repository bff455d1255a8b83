"""Learning where to learn."""
