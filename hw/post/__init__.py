"""POST: the epilogue and element-wise operations."""
