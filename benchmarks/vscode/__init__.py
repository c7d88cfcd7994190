"""VS Code through Studiolo, against its own program alone."""
