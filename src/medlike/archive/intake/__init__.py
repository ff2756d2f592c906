"""From sources to committed rows, and encoding again."""
