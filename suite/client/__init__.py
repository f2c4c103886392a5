"""The other half: clients for the suite, and for whatever else should give bytes back.

========= ======================================================================
tools     ``probe``: checks a target, and names what is wrong; ``connect``: talks to it;
          ``load``: how much it can do, and how fast, with ``load_command``, ``lanes``, ``timer`` and
          ``histogram``; ``results``, ``report`` and ``plot`` tell; ``locust_user`` is for many machines
ground    ``target``: what a TARGET is; ``connecting``: getting there; ``tls``: whom to trust;
          ``failures``: the words for what can go wrong
========= ======================================================================
"""
