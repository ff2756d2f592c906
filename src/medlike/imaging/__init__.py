"""Files into images: reading, window/level, letterbox, fingerprints, rendering."""
