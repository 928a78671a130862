"""The specs of diptych's own adapters: what is known about each before any model library is imported.

`models` lists adapters that run models, `lexical` those that count words, `remote` those that call a server.
"""
