"""Labelled collections, label trees and grouped splits."""
