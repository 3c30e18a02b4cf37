"""`python -m ranef`: the command line where its script is not on the path."""

from ranef.cli.commands import main

main()
