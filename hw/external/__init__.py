"""Memories outside of the core, behind its burst port."""
