"""``photophone serve``: the pipelines behind HTTP, on routes that clients of OpenAI speak already.

A request passes ``guard`` (token, sizes, time), ``fields`` (its form), ``lines`` (a bounded queue), a worker of
``workers`` (batches through a pipeline) and ``sounds`` (the format of its answer); ``routes`` ties them together,
``app`` builds it all and ``run`` serves it.
"""
