"""Derived arrays: columns, segments, filters, words. Rebuilt from the store at any time."""
