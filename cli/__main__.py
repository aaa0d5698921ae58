"""`python -m cli`: the same as `corewatch`. The supervisor starts its subprocesses this way."""

from cli.main import main

main()
