"""What requests meet, with real Envoys and small replicas of our own."""
