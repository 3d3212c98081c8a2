"""FETCH: weights and stationary operands on their way to the array."""
