"""Learners in the stream of OSAKA (Caccia et al., 2020)."""
