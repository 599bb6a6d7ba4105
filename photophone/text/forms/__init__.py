"""Written forms as words, kind by kind; :mod:`photophone.text.written_forms` calls them in order."""
