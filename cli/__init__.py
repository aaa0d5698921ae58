"""The one command `corewatch`. Programs are imported when a command runs, so that the help is instant."""
