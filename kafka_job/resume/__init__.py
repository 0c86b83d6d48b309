"""Going on: the folder of checkpoints, and the plan of a run that is made from it."""
