"""The command line: what an operator asks for, in tables or as JSON."""
