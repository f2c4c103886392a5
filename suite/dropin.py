"""Where `twist` and `twistd` find the suite: installed as ``twisted/plugins/echo_suite.py``."""

from suite.twistd_plugin import echo_engine, echo_suite

__all__ = ["echo_engine", "echo_suite"]
