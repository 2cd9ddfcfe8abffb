"""A stand-in for Azure Resource Manager, Monitor and the identity endpoint; its container groups are processes."""
