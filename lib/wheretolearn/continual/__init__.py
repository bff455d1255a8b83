"""Continual learning: tasks or contexts come one after another.

streams          tasks one after another; pixel_streams, cifar100: those of the papers
memory, metrics  a fair sample of the past; what is measured
replay_gradient  La-MAML's meta-gradient; mlp_gradient: the same by hand; mlp_steps: plain steps
task_gradients   inner products of many tasks' gradients; of an MLP none is written out
learner          what all learners share; online, replay, ewc, gem, mer, la_maml: one each
methods          learners by name, with the settings of the papers
interference     whether what arrives disagrees with what was learned before
experiment       what is run, and a run that can be interrupted
osaka_*          the same for streams of contexts that switch unannounced
plan, life       what the study runs; how a run lives
"""
