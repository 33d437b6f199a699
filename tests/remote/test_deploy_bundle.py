"""The whole recipe against a real sshd."""

from hwc.bundle import read_bundle, verify_bundle


def test_a_bundle_arrives_is_built_and_measured(deploy_to, board, bundle):
    result = deploy_to(profile=True)
    assert result.error is None, str(result.error)
    there = board.home / "hwc" / "net"
    verify_bundle(there, read_bundle(there))
    assert read_bundle(there) == read_bundle(bundle)
    assert board.calls() == ["doctor", "build", "profile"]
