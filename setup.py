"""Ships the option files: ``options/`` becomes ``srtoolbox/options`` in a wheel.

Everything else about the package is in ``pyproject.toml``.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class BuildWithOptions(build_py):
    """Adds the option files to the built package; an editable install uses the folder as it is."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for source, target in self._option_files():
                self.mkpath(str(target.parent))
                self.copy_file(str(source), str(target))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        outputs = super().get_outputs(include_bytecode)
        return [*outputs, *(str(target) for _, target in self._option_files())]

    def _option_files(self) -> list[tuple[Path, Path]]:
        folder, target = ROOT / "options", Path(self.build_lib) / "srtoolbox" / "options"
        return [(path, target / path.relative_to(folder)) for path in folder.rglob("*.yml")]


setup(cmdclass={"build_py": BuildWithOptions})
