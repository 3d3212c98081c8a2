"""On-chip memories, their arbiters, and bursts to external memory."""
