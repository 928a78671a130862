"""Reads documents from files, folders, standard input and asynchronous iterators. Begin with `open_source`.

`readers` has one reader for each format of many documents, `open_source` reads a document a file and has a process of
its own read PDF, HTML and DOCX by `extractors`, `columns` interprets tables. An entry that cannot be read is yielded as
`Rejected` instead of ending the run.
"""
