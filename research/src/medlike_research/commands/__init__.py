"""The commands that this package adds to `medlike`, one file a command."""
