"""Stands for numpy where only its presence is asked for; it has nothing."""
