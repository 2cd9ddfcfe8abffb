"""The one error a start can end in."""


class StartError(Exception):
    """The host cannot start: one sentence that says what is wrong, where, and what to do."""
