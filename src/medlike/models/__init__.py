"""torch networks, one part a file, and the presets that join them."""
