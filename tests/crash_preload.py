"""What the fork server of test_crash.py does once for all commands: the built-in problems."""

from mathref.data import held_out_digests

held_out_digests()
