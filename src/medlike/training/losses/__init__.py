"""Losses, one a file: pure functions of real codes u, float [B,K], in full precision whatever autocast says.

Labels are int64 [B]; a label below zero is unknown, and its pairs are left out. A batch without a usable pair
gives zero with a gradient of zero. Values that are not finite come out as they went in: `require_finite`
names them.
"""
