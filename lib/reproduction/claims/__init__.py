"""Claims of the paper, and whether the records bear them out."""
