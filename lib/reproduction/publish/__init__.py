"""Executed notebooks, and the book made of them."""
