"""``python -m photophone.cli``."""

from photophone.cli import main

main()
