"""One weight matrix on its tiles: the state of its devices at a time, and reading vectors through it."""
