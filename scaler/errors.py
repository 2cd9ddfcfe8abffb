"""The errors somebody reacts to differently."""


class BadSetting(Exception):
    """Something an operator wrote is wrong: says where, what was expected and what to do. Exit code 2, HTTP 400."""


class Unavailable(Exception):
    """A read or a write got no answer, or a refusal that may pass: nothing was learned, nothing may be concluded.

    ``retry_after_s`` is what the other side asked for, None when it did not say.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OutOfCapacity(Unavailable):
    """Azure has no room for another replica here and now: quota, region, or rate of creation."""

    def __init__(self, message: str, *, code: str, retry_after_s: float | None = None) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.code = code


class Refused(Exception):
    """Azure refuses the request and will refuse it again: image, permission or template must be mended first."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class Conflict(Exception):
    """The row changed since it was read: another tick has the turn."""
