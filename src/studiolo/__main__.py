"""`python -m studiolo`."""

from studiolo.cli.main import main

main()
