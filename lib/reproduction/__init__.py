"""The reproduction: what is run, what it shows, and what it decides.

Every package builds on those before it, and all of them on the library, :mod:`wheretolearn`.

runs      one run, from its first episode to its record
plan      which runs there are, by profile and figure; the command line
report    from records to numbers, tables and figures
claims    what the paper says, and whether the records bear it out
bench     speed and memory beside other libraries
publish   notebooks executed, and the book made of them
"""
