"""A Functions host for one machine: it serves a real ``function_app.py`` by the rules of Azure's own host."""
