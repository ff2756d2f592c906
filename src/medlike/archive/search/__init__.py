"""Queries, their encoding, rankings, receipts and results."""
