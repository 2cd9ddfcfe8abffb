"""Days of load on the world in memory, so that there is a past to look at."""

from __future__ import annotations

import math
import random

from scaler.tick.scaler import Scaler
from tests.world import World

WEEK = """
services:
  iris:
    template: replica.yaml
    regions: [westeurope, northeurope]
    replicas: {min: 0, max: 10}
    target: {concurrency: 4, requests_per_second: 10}
    forecast: true
    budget: {monthly: 60, currency: EUR}
    schedule:
      timezone: Europe/Berlin
      rules:
        - {days: mon-fri, from: "07:30", to: "20:00", min: 1}
        - {days: sat-sun, off: true}
  digits:
    template: replica.yaml
    regions: [westeurope]
    replicas: {min: 0, max: 3}
    target: {concurrency: 2}
    forecast: false
"""
WORK_S = 0.35  # of one request
BUSIEST_PER_S = 60.0


def rate_per_s(at: float, noise: random.Random) -> float:
    """Working hours with a peak at eleven and one at three, in UTC, and little at night."""
    hour = at / 3600 % 24
    day = math.exp(-(((hour - 10) / 2.2) ** 2)) + 0.8 * math.exp(-(((hour - 14) / 1.8) ** 2))
    return BUSIEST_PER_S * (0.02 + 0.98 * day) * noise.uniform(0.85, 1.15)


async def play(world: World, scaler: Scaler, *, hours: float, every_s: float = 15.0, seed: int = 7) -> None:
    """Tick for so many hours, with the load of the time of day shared among the replicas that are ready."""
    noise = random.Random(seed)
    for _ in range(int(hours * 3600 / every_s)):
        now = world.clock.advance(every_s)
        for service, share in (("iris", 1.0), ("digits", 0.05)):
            servers = [s for name, s in world.servers.items() if name.startswith(service) and now >= s.ready_at]
            load = share * rate_per_s(now, noise)
            for server in servers:
                own = load / len(servers)
                server.arrive(round(own * every_s), each_s=WORK_S)
                server.in_flight = min(server.capacity, round(own * WORK_S))
                server.queued = max(0, round(own * WORK_S) - server.capacity)
        await scaler.tick(now, cause="timer")
