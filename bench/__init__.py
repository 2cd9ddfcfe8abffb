"""How fast, and how it grows: each file is a command of its own (``python -m bench.NAME``); none is a test."""
