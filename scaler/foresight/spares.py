"""Warm spares: how many replicas beyond the need of the moment are worth their rent, by the price of lateness. Pure.

The newsvendor's rule. Within one lead time nothing can be added, so what may come until then has to be there: the
replicas needed are taken as normal around the m that are busy now, with the variance of a Poisson count of requests,
m / c where each carries c at once. A spare that is not needed costs one rent, one that is missing costs ``lateness``
of them: the count to have is the quantile lateness / (1 + lateness).
"""

from __future__ import annotations

import math
from statistics import NormalDist


def spares(busy: float, carried: float, lateness: float) -> int:
    """Spares for ``busy`` replicas' worth of work of which each carries ``carried`` requests at once; none for none."""
    if busy <= 0 or carried <= 0:
        return 0
    share = lateness / (1 + lateness)
    wanted = NormalDist(busy, math.sqrt(busy / carried)).inv_cdf(share)
    return max(0, math.ceil(wanted - 1e-9) - math.ceil(busy - 1e-9))
