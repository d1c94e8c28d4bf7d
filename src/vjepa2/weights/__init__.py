"""Published files: finding them, reading and writing weights, and fitting them to a network."""
