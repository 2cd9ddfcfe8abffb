"""What requests meet: Envoy's bootstrap, the endpoint list that it asks for, and the hold when no replica is ready."""
