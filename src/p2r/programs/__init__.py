"""Programs that a model writes to look at an image: read as syntax trees and walked, never executed.

A program may open the image, cut, size, turn and enhance it, compute, and print and save what it made. It does that in
a process of its own, whose time and memory are limited. Everything else is an error that the model is told. Nothing is
opened or written: paths are names in memory.
"""
