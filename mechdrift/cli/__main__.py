"""`python -m mechdrift.cli`: the same as the command `mechdrift`."""

from mechdrift.cli.entry import main

main()
