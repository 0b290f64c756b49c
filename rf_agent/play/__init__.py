"""The play page: a table in the browser, to ask, to watch, to drive and to record (`rf-agent play`).

One process serves the page (`web`); every tab has a table of its own in a process of its own (`table`), which holds a
`session`. Neither the page's process nor a table imports torch before a policy is asked for.
"""
