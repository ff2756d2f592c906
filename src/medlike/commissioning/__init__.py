"""Judge a bundle on a site's own images before it goes live, and fit its outlier verdicts to them."""
