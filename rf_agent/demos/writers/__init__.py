"""Writers of demonstrations in formats of others."""
