"""One run: its parameters, its life, what it leaves behind."""
