"""The admin API and the dashboard: an ASGI app over the store and one `Scaler`."""
