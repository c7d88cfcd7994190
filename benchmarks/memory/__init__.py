"""What Studiolo's own processes need with ten workspaces."""
