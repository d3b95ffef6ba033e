"""Getting datagrams from one host to another, through whatever lies between.

Imports none of the other packages. `docs/architecture.md` draws the house.
"""
