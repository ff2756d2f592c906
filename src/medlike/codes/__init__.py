"""Packed bits: packing, Hamming search, regional window search, bucket table. numpy and numba only."""
