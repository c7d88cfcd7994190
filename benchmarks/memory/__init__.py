"""What Studiolo's own processes need with ten workspaces, and what one more workspace takes."""
