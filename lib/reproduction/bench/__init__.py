"""How fast meta-training is, beside other ways to write it: ``python -m reproduction.bench``.

cases           the work: networks, episodes, inner steps
forms, la_maml  all contenders, which must compute the same as the usual form
measure         they take turns, each in a process of its own
result, report  the file that comes out; its tables and its figure
cost            what the study and the paper's settings cost
"""
