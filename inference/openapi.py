"""The OpenAPI document of the replica."""
