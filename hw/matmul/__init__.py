"""MATMUL: the systolic array and its accumulators."""
