"""A day of requests played at speed against the running system, with what must hold, a summary and a picture."""
