"""deploy/container/gather.py, which the Containerfile runs: other bases than the one images are tested on."""

from __future__ import annotations

import platform
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers import ROOT

if TYPE_CHECKING:
    import gather
else:  # it is a program, in no package
    spec = spec_from_file_location("gather", ROOT / "deploy/container/gather.py")
    gather = module_from_spec(spec)
    spec.loader.exec_module(gather)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A directory for what the base has."""
    directory = tmp_path / "base"
    directory.mkdir()
    return directory


@pytest.fixture
def image(tmp_path: Path, base: Path) -> gather.Image:
    """An image that has the directories on the way to the base."""
    root = tmp_path / "root"
    root.mkdir()
    found = gather.Image(root)
    found.add(base)
    return found


def write(path: Path, text: str = "something") -> Path:
    """Make a file, and the directories that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def below(directory: Path) -> dict[str, str]:
    """What is in a directory: files with their texts, links with where they lead."""
    return {
        str(path.relative_to(directory)): f"-> {path.readlink()}" if path.is_symlink() else path.read_text()
        for path in directory.rglob("*")
        if path.is_symlink() or path.is_file()
    }


@pytest.mark.parametrize("libc", [("", ""), ("musl", "1.2.5")])
def test_another_c_library_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, libc: tuple[str, str]
) -> None:
    """Before anything is made; Python knows none but glibc by its name."""
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    with pytest.raises(SystemExit) as error:
        gather.main(tmp_path, tmp_path / "root")
    assert error.value.code == (
        "gather: the base has another C library than glibc; take a Debian, or one like it"
    )
    assert not (tmp_path / "root").exists()


# Links.


def test_links_and_what_they_lead_to_are_copied(image: gather.Image, base: Path) -> None:
    """As in Debian, where /lib is a link, and so is python3."""
    write(base / "usr/lib/python3.11", "program")
    (base / "lib").symlink_to("usr/lib")
    (base / "usr/bin").mkdir()
    (base / "usr/bin/python3").symlink_to(base / "lib/python3")
    (base / "usr/lib/python3").symlink_to("python3.11")
    write(base / "usr/lib/another")
    image.add(base / "usr/bin/python3")
    assert below(image.inside(base)) == {
        "usr/bin/python3": f"-> {base / 'lib/python3'}",
        "lib": "-> usr/lib",
        "usr/lib/python3": "-> python3.11",
        "usr/lib/python3.11": "program",
    }
    assert {base / "usr/bin/python3", base / "lib", base / "usr/lib/python3.11"} <= image.added


@pytest.mark.parametrize(
    ("link", "target", "file"),
    [
        ("etc/zone", "../usr/share/zone", "usr/share/zone"),
        # The parent of where `short` leads to.
        ("short/tool", "../tool", "deep/tool"),
        ("tool", "short/../tool", "deep/tool"),
        ("etc/tool", "../short/./../../tool", "tool"),
    ],
)
def test_a_link_may_lead_up(image: gather.Image, base: Path, link: str, target: str, file: str) -> None:
    (base / "etc").mkdir()
    (base / "deep/er").mkdir(parents=True)
    (base / "short").symlink_to("deep/er")
    write(base / file, "what is meant")
    (base / link).symlink_to(target)
    assert (base / link).read_text() == "what is meant"
    image.add(base / link)
    assert image.inside(base / link).resolve() == image.inside(base / file)
    assert image.inside(base / file).read_text() == "what is meant"


def test_a_tree_is_copied_but_for_what_is_left_out(image: gather.Image, base: Path) -> None:
    for name in (
        "a.py",
        "tests/test_a.py",
        "__pycache__/a.pyc",
        "inner/tests.py",
        "inner/test/b.py",
        "real/c",
    ):
        write(base / "library" / name)
    (base / "library/alias").symlink_to("real")
    files = image.add_tree(base / "library", ("__pycache__", "test", "tests"))
    assert set(below(image.inside(base / "library"))) == {"a.py", "inner/tests.py", "real/c", "alias"}
    assert sorted(files) == [
        base / "library" / name for name in ("a.py", "alias", "inner/tests.py", "real/c")
    ]


# Libraries.


def fake_ldd(monkeypatch: pytest.MonkeyPatch, directory: Path, said: str, code: int = 0) -> None:
    """Let `ldd` be a program that says this of whatever it is asked."""
    program = write(directory / "bin/ldd", f"#!/bin/sh\n/bin/cat <<'END'\n{said}END\nexit {code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))


FOUND = """\
/usr/bin/python3.11:
\tlinux-vdso.so.1 (0x00007ffd0c1f2000)
\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f1d0a8f0000)
\t/lib64/ld-linux-x86-64.so.2 (0x00007f1d0b0d8000)
/opt/echo-suite/lib/plain.so:
\tstatically linked
"""


def test_libraries_and_the_loader_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_ldd(monkeypatch, tmp_path, FOUND)
    assert gather.libraries([Path("/usr/bin/python3.11"), Path("/opt/echo-suite/lib/plain.so")]) == {
        Path("/lib/x86_64-linux-gnu/libm.so.6"),
        Path("/lib64/ld-linux-x86-64.so.2"),
    }


@pytest.mark.parametrize(
    ("said", "files"),
    [(f"{FOUND}/opt/x.so:\n\tlibodd.so.4 => not found\n", 3), ("\tlibodd.so.4 => not found\n", 1)],
    ids=["one of several", "the only one"],
)
def test_a_library_that_the_base_lacks_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, files: int
) -> None:
    fake_ldd(monkeypatch, tmp_path, said)
    with pytest.raises(SystemExit) as error:
        gather.libraries([Path("/opt/x.so")] * files)
    assert error.value.code == (
        "gather: /opt/x.so needs libodd.so.4, which is not in the base; install it there"
    )


def test_an_ldd_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_ldd(monkeypatch, tmp_path, "\tnot a dynamic executable\n", 1)
    with pytest.raises(SystemExit) as error:
        gather.libraries([Path("/opt/x.so")])
    assert error.value.code == "gather: ldd has failed"


# What packages list.

RECORD = """\
a/__init__.py,sha256=47DEQpj8HBSa,0
a/__pycache__/__init__.cpython-311.pyc,,
"a/b,c.py",sha256=47DEQpj8HBSa,0
a/tests/test_a.py,sha256=47DEQpj8HBSa,0
a-1.0.dist-info/RECORD,,
../../../bin/a,sha256=47DEQpj8HBSa,0
"""


@pytest.mark.parametrize("tested", [True, False])
def test_what_is_left_out_is_struck_from_the_record(image: gather.Image, base: Path, tested: bool) -> None:
    """In the image only; one that lists nothing else stays as it is."""
    kept = "".join(line for line in RECORD.splitlines(True) if "tests" not in line and ".pyc" not in line)
    record = write(
        base / "lib/python3/site-packages/a-1.0.dist-info/RECORD", text := RECORD if tested else kept
    )
    for name in ("a/__init__.py", "a/b,c.py", *(["a/tests/test_a.py"] if tested else [])):
        write(record.parent.parent / name)
    write(base / "bin/a")
    image.add_tree(base, gather.ENVIRONMENT_WITHOUT)
    gather.forget(image, record)
    assert image.inside(record).read_text() == kept
    assert record.read_text() == text


# Debian packages.

STATUS = """\
Package: liba
Status: install ok installed
Architecture: amd64
Version: 1.0-1

Package: elsewhere
Status: install ok installed
Architecture: all
Version: 2.0
"""


def test_a_base_without_dpkg_has_no_list_of_packages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], image: gather.Image, base: Path
) -> None:
    monkeypatch.setattr(gather, "DPKG", base / "dpkg")
    image.add(write(base / "liba.so"))
    gather.account(image)
    assert (
        capsys.readouterr().err == "gather: the base has no dpkg: there is no list of packages for scanners\n"
    )
    assert below(image.inside(base)) == {"liba.so": "something"}


def test_packages_are_listed_with_those_of_their_files_that_are_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], image: gather.Image, base: Path
) -> None:
    """That one has no copyright is said; certificates may be there without the package of that name."""
    dpkg = base / "dpkg"
    monkeypatch.setattr(gather, "DPKG", dpkg)
    write(dpkg / "status", STATUS)
    library, manual = write(base / "usr/lib/liba.so.1"), write(base / "usr/share/liba.1")
    (base / "lib").symlink_to("usr/lib")
    # By its name before /lib was a link to /usr/lib.
    write(dpkg / "info/liba:amd64.list", f"/.\n{base}\n{base / 'lib/liba.so.1'}\n{manual}\n")
    sums = [
        f"d41d8cd98f00b204e9800998ecf8427e  {str(path).removeprefix('/')}\n" for path in (library, manual)
    ]
    write(dpkg / "info/liba:amd64.md5sums", "".join(sums))
    write(dpkg / "info/elsewhere.list", f"/.\n{write(base / 'elsewhere')}\n")
    image.add(base / "lib/liba.so.1")
    image.added.add(gather.CERTIFICATES)
    gather.account(image)
    assert below(image.inside(dpkg)) == {
        "status.d/liba": STATUS.split("\n\n", maxsplit=1)[0] + "\n",
        "status.d/liba.md5sums": sums[0],
    }
    assert capsys.readouterr().err == "gather: the base has no /usr/share/doc/liba/copyright\n"
