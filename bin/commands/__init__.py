"""The commands of `koe`, one module for each kind."""
