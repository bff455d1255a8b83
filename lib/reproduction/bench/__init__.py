"""How fast meta-training is, beside other ways to write it: ``python -m reproduction.bench``.

cases            the work: networks, episodes, inner steps
usual            sparse-MAML as it is usually written; what all others must equal
peers            the same with ``higher``, ``torch.func`` and TorchOpt
la_maml          La-MAML's step; its forms are in la_maml_forms
forms            all contenders by name, and whether they compute the same
ceiling          what the processor could do
worker, child    a process that holds contenders: the parent's end, and the child's
measure          contenders take turns
results          the file that comes out, its schema, the targets
report, plots    its tables and its figure
accuracy, cost   what bfloat16 does to accuracy; what the paper's study costs
"""
