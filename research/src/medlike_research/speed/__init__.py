"""Benches: how fast, beside a peer measured in the same run."""
