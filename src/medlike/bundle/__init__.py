"""A trained model on disk: format, digest, golden inputs, the shipped bundles. No torch."""

from medlike.bundle.bundle import Bundle, default, default_text, former, locate, shipped
from medlike.bundle.write import rewrite, write

__all__ = ["Bundle", "default", "default_text", "former", "locate", "rewrite", "shipped", "write"]
