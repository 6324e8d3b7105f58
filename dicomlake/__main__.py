"""`python -m dicomlake`."""

from dicomlake.cli import main

main()
