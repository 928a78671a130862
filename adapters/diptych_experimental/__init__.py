"""Published methods that work, are tested, and were not shown to help, apart from those of the product.

`docs/research/methods/literature.md` has each with its verdict. Begin with `hooks`, which lists them, then
`multi_exit`, the simplest.
"""
