"""What a service remembers, whole: its row, and the blocks of the record of arrivals that the row only names."""

from __future__ import annotations

from msgspec.structs import replace

from scaler.memory import Memory, recall, span, with_history
from scaler.ports import Store, Stored


async def recalled(store: Store, stored: Stored) -> Memory | None:
    """None before the first tick. Raises ``Unavailable``."""
    memory = recall(stored)
    named = span(memory.state) if memory else None
    if memory is None or named is None:
        return memory
    return replace(memory, state=with_history(memory.state, await store.history(stored.service, named)))
