"""A trained model on disk: format, digest, golden inputs, the shipped bundles."""
