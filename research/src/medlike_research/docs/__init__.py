"""The builders of pages in docs."""
