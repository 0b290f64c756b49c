"""A stand-in for CALVIN's package in its tests' clone: its layout, names, imports and faults, with our table in it."""
