"""When each phoneme of a recording is said, from its text: for recordings whose times nobody knows."""
