"""Demonstrations and pictures: collecting, storing, loading."""
