"""Supervised fine-tuning: a phase that learns replies word by word, before rewards take over."""
