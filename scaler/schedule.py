"""(placeholder, owned by the policy work)"""
