"""The networks, their configuration and their outputs."""
