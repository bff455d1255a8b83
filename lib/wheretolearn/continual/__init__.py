"""Continual learning: tasks or contexts come one after another.

streams         tasks one after another: those of the papers, and one's own
la_maml         look-ahead with replay, and its meta-gradient: the learner of the paper
baselines       online SGD, EWC, GEM, MER; task_gradients: what GEM compares
replay          a fair sample of the past, and learning from it
base            what all learners on streams share
methods         learners by name, with the settings of the papers
metrics         what is measured; interference: whether the new disagrees with the old
osaka           the same for contexts that switch unannounced
"""
