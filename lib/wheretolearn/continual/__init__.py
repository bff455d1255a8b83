"""Continual learning: tasks come one after another and never return.

streams          tasks one after another; pixel_streams, cifar100: those of the papers
memory, metrics  a fair sample of the past; what is measured
replay_gradient  La-MAML's meta-gradient; mlp_gradient: the same by hand
learner          what all learners share; online, replay, ewc, gem, mer, la_maml: one each
methods          learners by name, with the settings of the papers
experiment       what is run, and a run that can be interrupted
"""
