"""A policy tried before it is used: what it would have cost, and who would have waited.

    trace / record → plant (replicas, a queue, cold starts) ⇄ rule (this policy, another, a peer's) → score

All of it is pure: the same trace, rule and seed give the same figures to the last bit.
"""
