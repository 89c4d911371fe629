"""One real question of LEMUR at epoch 5: AlexNet's best trials on CIFAR-10 and MNIST, and its structure there."""

from __future__ import annotations

from nngpt_ext.networks.structure import Structure
from nngpt_ext.prompts.fields import Question

RECIPES = (
    {"lr": 0.0061, "batch": 4, "momentum": 0.7549, "dropout": 0.5, "transform": "norm_299"},
    {
        "lr": 0.0025232680503719275, "batch": 1, "momentum": 0.9557160849783314,
        "dropout": 0.48861473314574577, "transform": "norm_512",
    },
)  # fmt: skip
ACCURACIES = (0.7934 / 0.858, 0.9936 / 0.9955)
# At 299 and at 512 pixels; images of 28 pixels, MNIST's own, are too small for it.
STRUCTURES = (
    Structure(parameters=57_044_810, layers=8, last_map=17, forward=1),
    Structure(parameters=57_029_322, layers=8, last_map=31, forward=1),
)
EVIDENCE = ({1: 0.5713 / 0.6732}, {1: 0.9871 / 0.9924})
QUESTION = Question.of(
    "AlexNet", "cifar-10", "mnist", 5, norm_acc=ACCURACIES, recipe=RECIPES, structure=STRUCTURES, evidence=EVIDENCE
)

# How AlexNet's source begins.
CODE = """\
import torch
import torch.nn as nn


def supported_hyperparameters():
    return {'lr', 'momentum', 'dropout'}"""
