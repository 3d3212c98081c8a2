"""Memories behind the core's burst port: adapters for block RAM and for external chips."""
