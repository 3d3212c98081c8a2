"""Parts that several units are built from."""
