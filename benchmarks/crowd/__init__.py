"""Very many workspaces started at once."""
