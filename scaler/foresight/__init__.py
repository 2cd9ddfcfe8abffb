"""What is to come, learned from the service's own record: how long a start takes, what may arrive, what it is worth.

Reading order: ``history`` (arrivals as they were), ``leadtime`` (starts as they were), ``forecast`` (what may come),
``newsvendor`` (what it is worth to be ready for it), ``ahead`` (the count that foresight asks for), ``trials``
(whether it is to be believed), ``idle`` and ``spares`` (the last replica, and those kept warm), ``band`` (as shown).
"""
