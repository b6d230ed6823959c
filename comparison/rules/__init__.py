"""The rules, a module a family: each names its `comparison.interface.Rule` objects in `RULES`."""
