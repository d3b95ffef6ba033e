"""The programs: the daemon, the command line, the local mesh, the demo."""
