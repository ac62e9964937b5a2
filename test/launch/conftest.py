"""Launch files with a stand-in for launch and launch_ros, which are not on PyPI."""

import importlib.util
import sys
import types
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "launch"


class Recorded:
    """Any class of launch or launch_ros: keeps its arguments."""

    def __init__(self, *args, **options):
        self.args, self.options = args, options


class LaunchConfiguration(Recorded):
    """The value of an argument; the context is a dictionary."""

    def perform(self, context):
        return context.get(self.args[0], self.options.get("default"))


CLASSES = {
    "launch": ["LaunchDescription"],
    "launch.actions": ["DeclareLaunchArgument", "IncludeLaunchDescription", "LogInfo", "OpaqueFunction"],
    "launch.launch_description_sources": ["PythonLaunchDescriptionSource"],
    "launch.substitutions": [],
    "launch_ros": [],
    "launch_ros.actions": ["Node"],
}


class LaunchFile:
    """A launch file and what it starts."""

    def __init__(self, name):
        spec = importlib.util.spec_from_file_location(name.replace(".", "_"), FOLDER / name)
        self.module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)

    def arguments(self):
        """Return the options of each declared argument."""
        entities = self.module.generate_launch_description().args[0]
        return {one.args[0]: one.options for one in entities if one.args and isinstance(one.args[0], str)}

    def started(self, **given):
        """Return the options of each action, for some arguments."""
        entities = self.module.generate_launch_description().args[0]
        (function,) = [one.options["function"] for one in entities if "function" in one.options]
        return [action.options for action in function(given)]

    def nodes(self, **given):
        """Return the options of each node, by executable, for some arguments."""
        return {
            options["executable"]: options for options in self.started(**given) if "executable" in options
        }

    def messages(self, **given):
        """Return what is logged for some arguments."""
        return [options["msg"] for options in self.started(**given) if "msg" in options]

    def parameters(self, **given):
        """Return the parameters of each node that override those of files."""
        found = {}
        for executable, options in self.nodes(**given).items():
            found[executable] = {}
            for one in options["parameters"]:
                found[executable].update(one if isinstance(one, dict) else {})
        return found


@pytest.fixture
def load_launch_file(monkeypatch):
    for name, classes in CLASSES.items():
        module = types.ModuleType(name)
        for kind in classes:
            setattr(module, kind, type(kind, (Recorded,), {}))
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["launch.substitutions"].LaunchConfiguration = LaunchConfiguration
    return LaunchFile
