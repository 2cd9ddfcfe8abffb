"""A count that never changes: what a container group costs that nobody scales."""

from __future__ import annotations

from msgspec import Struct

from scaler.replay.sight import Sight, Wish


class Fixed(Struct, frozen=True):
    """So many replicas, all the time, whatever the bounds."""

    count: int
    tick_s: int = 3600
    wake_s: int | None = None

    @property
    def name(self) -> str:
        return f"fixed:{self.count}"

    @property
    def begins(self) -> int:
        return self.count

    def initial(self) -> None:
        """It remembers nothing."""

    def decide(self, state: None, seen: Sight) -> tuple[Wish, None]:
        return Wish(self.count), state
