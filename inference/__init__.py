"""The replica: a model over HTTP, answered in batches; read settings, lifecycle, batcher, connection, app, server."""

VERSION = "0.1.0"
