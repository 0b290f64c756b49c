"""What moves and is seen: the embedded play table (and, behind the same interface, others)."""
