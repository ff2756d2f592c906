"""Archives that lie elsewhere: the client of a medlike service."""
