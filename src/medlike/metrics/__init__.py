"""Retrieval, OOD and localisation metrics, and statistics. Pure functions on numpy arrays."""
