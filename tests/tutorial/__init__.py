"""The tutorial, docs/tutorial, does what it says: its programs are run as a reader runs them.

============== =================================================================================
`pages`        reads the chapters: headings, fences, and the commands of ``console`` fences
`replay`       runs the commands in terminals, as a reader of the chapter does
`ports`        what every Python in these terminals loads first: port 1234 becomes a free port
`serving`      starts programs of the tutorial for clients in a test itself
`conftest`     ``reader``: a virtual environment with what the chapters install, and nothing else; ``shell``:
               a terminal with it
============== =================================================================================

How to write a transcript. In a ``console`` fence, each line that begins with ``$`` is a command, and the
lines up to the next are all that its terminal shows then, standard error too:

- A line that begins with ``>`` is a prompt, and what follows it is what the reader types. A program at its
  prompt when nothing more is typed is an error: an empty line, a bare ``>``, is typed as well.
- A command that listens on one of `replay.PORTS`, or on a UNIX socket, is a server: the next commands run
  beside it, and it is interrupted (Ctrl-C) where its section ends, at the next heading, as soon as it has
  shown what is in its own fence; what it shows after that follows a line that is only ``^C``. Start a second
  server on the same port under a heading of its own.
- ``kill`` ends the last of the servers.
- ``…`` is any text within a line; a line that is only ``…`` is any number of lines.
- Commands run in a copy of docs/tutorial/steps, a new one for each chapter; ``python`` is the `reader`'s.
- What is not to be run is in a ``text`` fence.
"""
