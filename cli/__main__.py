"""`python -m cli`: the same as the command `corewatch`. The supervisor starts its children this way."""

from cli.main import main

main()
