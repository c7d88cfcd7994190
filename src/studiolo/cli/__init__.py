"""The `studiolo` command, on the Python SDK. A module imports what takes time where it is used: `--help` is instant."""
