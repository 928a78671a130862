"""Where documents come from: files, folders, standard input, asynchronous iterators. Begin with `open_source`."""
