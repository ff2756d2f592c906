"""The development collections: where they are, their published split, and what is known of their sources."""
