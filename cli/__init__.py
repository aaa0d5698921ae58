"""The one command `corewatch`. It imports the programs only when they are asked for, so that its help is instant."""
