"""The serial structure: one small shared unit, for devices of a few thousand cells."""
