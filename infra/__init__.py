"""Where the autoscaler runs: on Azure by Bicep, on one machine by ``infra.local``."""
