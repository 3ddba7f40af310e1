"""`python -m inverters` is `invert`."""

from inverters.cli import main

main()
