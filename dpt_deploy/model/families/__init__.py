"""Families of checkpoints: one file each, recognised by their keys (:mod:`dpt_deploy.model.families.registry`)."""
