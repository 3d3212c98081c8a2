"""Frontends: from a framework's model to the float graph."""
