"""How long the command itself takes."""
