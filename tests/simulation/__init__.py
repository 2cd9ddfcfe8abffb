"""Whole days of the production tick over a world in memory: one seed is one history, replayable to the byte.

timeline    the only queue, the only clock and the only dice of a history
loop        an event loop that is stepped: what it waits for is the timeline's
instances   function instances: they tick, pause, wake with old plans, die between two calls
wire        the ports, with what can befall a call on its way there and back
weather     how bad a seed's day is: which faults it knows, and how often
azure       what Azure and strangers do to container groups
traffic     the front: requests, endpoints applied late, what is held at zero
operators   pins, other settings, other templates, services taken away
record      what a tick went by and was answered
checks      what must hold always, at each call and save; counts judges one save, patience the waits
history     all of it together: ``run(seed)``
planting    how a fault is put in; planted_acting and planted_seeing hold them, planted finds seeds that catch them
"""
