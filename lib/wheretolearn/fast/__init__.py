"""What is fast: other ways to compute what the readable code computes."""
