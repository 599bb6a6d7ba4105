"""Where the sound lies within a file: one module a container.

libsndfile reads the first of several streams and as much as a header tells. Here the streams of a file are found from
its own structure, so that it is read to its real end or refused.
"""
