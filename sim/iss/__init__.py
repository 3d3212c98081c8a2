"""The instruction-level simulator: exact, and with a cycle model."""
