"""`python -m inverters` is `invert`."""

from inverters.cli.main import main

main()
