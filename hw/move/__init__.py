"""MOVE: copies of elements between places of a scratchpad."""
