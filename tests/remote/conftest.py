"""Fixtures of the deployment tests."""

from tests.remote.fixtures import board, bundle, deploy_to

__all__ = ["board", "bundle", "deploy_to"]
