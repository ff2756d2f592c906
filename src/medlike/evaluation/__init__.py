"""Protocols, baselines, studies and reports."""
