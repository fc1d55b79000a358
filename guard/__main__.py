"""`python -m guard` is `guard`."""

from .cli import main

main()
