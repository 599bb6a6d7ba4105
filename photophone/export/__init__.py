"""Built-in models as files of other runtimes: :func:`photophone.export.onnx.export_onnx`."""
