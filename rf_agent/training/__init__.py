"""Learning: objectives, the optimisation loop, pre-training and imitation."""
