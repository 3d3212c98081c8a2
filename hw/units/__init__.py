"""Arithmetic units with stream ports: parts for any design, with or without the compiler."""
