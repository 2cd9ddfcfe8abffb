"""The whole system on one machine: set-up, the stand-in for Azure, the host of functions, the supervisor, the demo."""
