"""Synthesis, placement and routing of any component with the open tools."""
