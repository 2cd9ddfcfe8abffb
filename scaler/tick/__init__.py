"""One tick: what is decided elsewhere is looked up, written down and carried out here.

Reading order: ``managed`` (what is ticked, and with what), ``scaler`` (one pass over every service), ``service`` (one
tick of one), ``recalled``, ``looking``, ``rules``, ``rows`` and ``act``; then who only listens: ``ticked``,
``telemetry``, ``courier``.
"""
