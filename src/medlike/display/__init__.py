"""Draw results: contact sheets and HTML pages."""
