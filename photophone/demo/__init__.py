"""The demo app of ``photophone demo``: one file a tab, each on the library's own pipelines.

Nothing is reported to anybody: :mod:`photophone.core.privacy` switches gradio's analytics off before anything imports
gradio. When gradio is imported it makes a folder ``gradio`` among the temporary files, which :mod:`photophone.demo.app`
removes if it is empty.
"""
