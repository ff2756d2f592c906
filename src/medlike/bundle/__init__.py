"""A trained model on disk: format, digest, golden inputs, the shipped bundles. No torch."""

from medlike.bundle.bundle import Bundle, default, locate, shipped
from medlike.bundle.write import rewrite, write

__all__ = ["Bundle", "default", "locate", "rewrite", "shipped", "write"]
