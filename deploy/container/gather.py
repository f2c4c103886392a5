"""Gather what runs the suite out of the base that the image is built on.

    python3 gather.py ENVIRONMENT ROOT

The Containerfile runs it with the base's own Python. To the directory ROOT go the virtual environment
ENVIRONMENT, the Python and the standard library under it, the shared libraries that these need, time zones,
and the files of /etc without which nobody has a name. All have the paths that they have in the base, and so
do symbolic links that lead to them. The CA certificates are there already: those that this process sees may
be the builder's, mounted over the base's.

What belongs to a Debian package is accounted for as in distroless images, where scanners look for it: dpkg's
entry of the package in ``/var/lib/dpkg/status.d/NAME``, checksums of those of its files that are here in
``NAME.md5sums`` beside it, and its copyright in ``/usr/share/doc/NAME``.
"""

from __future__ import annotations

import csv
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

#: Patterns of what is left out of the standard library: tests, what is of no use without pip, a compiler or
#: a display, distutils (Python 3.12 has none), and extensions whose libraries nothing here uses.
LIBRARY_WITHOUT = (
    "__pycache__",
    "site-packages",
    "dist-packages",
    *("test", "tests", "_test*.so", "_ctypes_test*.so", "_xxtest*.so", "xx*.so"),
    *("config-*", "distutils", "ensurepip", "lib2to3", "venv"),
    *("idlelib", "tkinter", "_tkinter*.so", "turtle.py", "turtledemo"),
    *("_dbm*.so", "_gdbm*.so", "nis*.so", "sqlite3", "_sqlite3*.so"),
)

#: The same for the environment: the tests of its packages, and what a shell would read.
ENVIRONMENT_WITHOUT = ("__pycache__", "test", "tests", "activate*", "Activate*")

#: The same for time zones: those that count leap seconds, and a copy of those that do not.
ZONES_WITHOUT = ("right", "posix")

#: Libraries that no file says it needs: pthread_exit(3), by which Python ends threads, opens libgcc_s by its
#: name. What resolves names is in glibc itself since 2.34.
OPENED = ("libgcc_s.so.1",)

#: Where clients look for CA certificates; Debian's ca-certificates makes the file.
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

#: Who there is: the last one is the suite.
FILES = {
    "/etc/passwd": (
        "root:x:0:0:root:/:/usr/sbin/nologin\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
        "echo-suite:x:65532:65532:echo-suite:/:/usr/sbin/nologin\n"
    ),
    "/etc/group": "root:x:0:\nnogroup:x:65534:\necho-suite:x:65532:\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}

DPKG = Path("/var/lib/dpkg")


class Image:
    """The files of the image, below *root*.

    :ivar added: what has been copied, links included, by its path in the base.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.added: set[Path] = set()

    def inside(self, path: Path) -> Path:
        """Where *path* is to be found while the image is made."""
        return self.root / path.relative_to("/")

    def add(self, path: Path) -> None:
        """Copy a file, or make a directory, with all links on the way."""
        at, left = Path("/"), list(path.parts)
        while left:
            # There are no links on the way to `at` any more, so `..` means what it says.
            at = at.parent if left[0] == ".." else at / left[0]
            del left[0]
            if at in self.added:
                pass
            elif at.is_symlink():
                self.inside(at).symlink_to(os.readlink(at))
            elif at.is_dir():
                self.inside(at).mkdir(exist_ok=True)
            else:
                shutil.copy(at, self.inside(at))
            self.added.add(at)
            if at.is_symlink():
                # An absolute one begins with "/", which leads there from anywhere.
                left = [*Path(os.readlink(at)).parts, *left]
                at = at.parent

    def add_tree(self, directory: Path, without: tuple[str, ...] = ()) -> list[Path]:
        """Copy a directory, but for entries that match one of the patterns *without*; return its files."""
        files = []
        for place, directories, names in os.walk(directory):
            self.add(Path(place))
            directories[:] = [name for name in directories if not _matches(name, without)]
            files += [Path(place, name) for name in names if not _matches(name, without)]
            # Links to directories are not walked into.
            files += [Path(place, name) for name in directories if Path(place, name).is_symlink()]
        for file in files:
            self.add(file)
        return files

    def write(self, path: Path, text: str) -> None:
        """Make a file that the base does not have."""
        file = self.inside(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def say(text: str) -> None:
    """Say something to whoever builds."""
    print(f"gather: {text}", file=sys.stderr)


def libraries(files: list[Path]) -> set[Path]:
    """The shared libraries, and the loader, that programs and extensions need."""
    # ldd asks the loader of the base, which knows where it would find them.
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(["ldd", *files], env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit("gather: ldd has failed")
    found: set[Path] = set()
    of = str(files[0])  # which ldd does not say if there is no other
    for line in done.stdout.splitlines():
        if not line.startswith("\t"):
            of = line.removesuffix(":")
        elif missing := re.fullmatch(r"\t(\S+) => not found", line):
            raise SystemExit(f"gather: {of} needs {missing[1]}, which is not in the base; install it there")
        elif path := re.fullmatch(r"\t(?:\S+ => )?(/\S+) \(0x\w+\)", line):
            found.add(Path(path[1]))
    return found


def add_python(image: Image, environment: Path) -> None:
    """The environment, the Python that it was made with, and the libraries that both need."""
    image.add(Path(sys.executable))
    files = image.add_tree(environment, ENVIRONMENT_WITHOUT)
    for library in sorted({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}):
        files += image.add_tree(Path(library), LIBRARY_WITHOUT)
    binaries = [Path(sys.executable), *(file for file in files if re.search(r"\.so(\.[\d.]+)?$", file.name))]
    needed = libraries(binaries)
    for name in OPENED:
        needed |= {path for path in {found.parent / name for found in needed} if path.exists()}
    for path in sorted(needed):
        image.add(path)
    for record in environment.rglob("*.dist-info/RECORD"):
        forget(image, record)


def forget(image: Image, record: Path) -> None:
    """Strike what has been left out from a RECORD, which lists a package's files."""
    packages = record.parent.parent
    lines = record.read_text().splitlines(keepends=True)
    names = [name for name, *_ in csv.reader(lines)]
    files = [Path(os.path.normpath(packages / name)) for name in names]
    kept = [line for line, file in zip(lines, files, strict=True) if file in image.added]
    if len(kept) < len(lines):
        image.inside(record).write_text("".join(kept))


def add_system(image: Image) -> None:
    """What is neither Python nor a library, and yet missed."""
    # Scanners look into the first three for the release that the packages are of: Debian's and Ubuntu's.
    for path in ("/etc/os-release", "/etc/debian_version", "/etc/lsb-release", "/etc/ld.so.conf"):
        if Path(path).exists():
            image.add(Path(path))
    trees = {
        "/etc/ld.so.conf.d": (),
        "/usr/lib/locale/C.utf8": (),
        "/usr/share/common-licenses": (),  # which copyright files refer to
        "/usr/share/zoneinfo": ZONES_WITHOUT,
        "/lib/terminfo": (),  # for `python` at a terminal
    }
    for directory, without in trees.items():
        if Path(directory).is_dir():
            image.add_tree(Path(directory), without)
    # What Python's own OpenSSL reads; that of the package `cryptography` finds the certificates by itself.
    image.added.add(CERTIFICATES)
    file = Path(ssl.get_default_verify_paths().openssl_cafile)
    image.add(file.parent)
    image.inside(file).symlink_to(CERTIFICATES)
    image.added.add(file)
    settings = file.with_name("openssl.cnf")
    if settings.exists():
        image.add(settings)
    for name, text in FILES.items():
        image.write(Path(name), text)
    (image.root / "tmp").mkdir()
    (image.root / "tmp").chmod(0o1777)
    # Without its cache, the loader would not look into /usr/local/lib.
    subprocess.run(["ldconfig", "-X", "-r", image.root], check=True)
    shutil.rmtree(image.root / "var", ignore_errors=True)  # another cache, for the next time


@cache
def _real(directory: Path) -> Path:
    return directory.resolve()


def owners() -> dict[Path, str]:
    """The Debian package of each file of the base."""
    found = {}
    if (DPKG / "info/ca-certificates.list").exists():
        found[CERTIFICATES] = "ca-certificates"  # made when the package is installed
    for file in sorted((DPKG / "info").glob("*.list")):
        package = file.stem.split(":")[0]
        for line in file.read_text().splitlines():
            path = Path(line)
            if not path.is_dir():
                # Some are listed below /lib, which is a link to /usr/lib.
                found[_real(path.parent) / path.name] = package
    return found


def account(image: Image) -> None:
    """Say what Debian packages the files are from."""
    status = DPKG / "status"
    if not status.exists():
        say("the base has no dpkg: there is no list of packages for scanners")
        return
    entries = {}
    for entry in status.read_text().split("\n\n"):
        if name := re.match(r"Package: (\S+)", entry):
            entries[name[1]] = entry.strip() + "\n"
    of = owners()
    for package in sorted({of[path] for path in image.added if path in of}):
        image.write(DPKG / "status.d" / package, entries[package])
        terms = Path("/usr/share/doc", package, "copyright")
        if terms.exists():
            # Packages of one source share a directory, by links.
            image.write(terms, terms.read_text())
        else:
            say(f"the base has no {terms}")
        image.write(DPKG / "status.d" / f"{package}.md5sums", checksums(image, package))


def checksums(image: Image, package: str) -> str:
    """The lines of dpkg's for those files of *package* that are in the image."""
    files = [*DPKG.glob(f"info/{package}.md5sums"), *DPKG.glob(f"info/{package}:*.md5sums")]
    lines = [line for file in files for line in file.read_text().splitlines(keepends=True)]
    return "".join(line for line in lines if (image.root / line.split(maxsplit=1)[1].rstrip()).exists())


def main(environment: Path, root: Path) -> None:
    """Gather *environment* and what it needs, in *root*."""
    if platform.libc_ver()[0] != "glibc":
        raise SystemExit("gather: the base has another C library than glibc; take a Debian, or one like it")
    image = Image(root)
    add_python(image, environment)
    add_system(image)
    account(image)


if __name__ == "__main__":
    os.umask(0o022)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
