"""The service: the HTTP API over one or several archives, and the processes that answer it."""
