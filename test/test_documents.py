"""Documents repeat the code correctly, their links lead somewhere, and their programs run."""

import ast
import re
import xml.etree.ElementTree as ElementTree
from functools import lru_cache
from pathlib import Path

import pytest

import redepth_ros
from redepth_ros.cli.main import main
from redepth_ros.core.refine.result import Outcome
from redepth_ros.core.refine.settings import PRESETS, RefineSettings
from redepth_ros.nodes.settings import DepthSettings, ServerSettings

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    str(path.relative_to(ROOT)) for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
)
SOURCES = ("redepth_ros", "launch", "interfaces", "bench", "training", "tools", "config", "test")

OLD_NAMES = (
    r"`members`|--members|members:=",
    r"\bcoder\b",
    r"held_frames",
    r"redepth_together",
    r"preset[ =:`-]{1,4}fast\b|`fast` (or|and) `paper`",
    r"(?<![\w_])refine:=",
    r"(?<![\w_])fast:=",
    r"max_edge|assumed_error|anchor_minimum|scale_jitter|scale_drift|scale_patience",
    r"keyframe_spacing|`keyframe_motion`|keep_captioner|trust_radius|trust_limit|min_fall|knows_light",
    r"[Cc]omplaints?\b",
    r"\b[Pp]ictures?\b",
)


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def section_of(document: str, heading: str) -> str:
    return read(document).split(f"\n## {heading}\n")[1].split("\n## ")[0]


def without_fences(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)


@lru_cache
def anchors_of(path: Path) -> set[str]:
    """The fragments that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", without_fences(path.read_text(encoding="utf-8")), re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)|`", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@lru_cache
def source_words() -> set[str]:
    """Every identifier in the code."""
    words: set[str] = set()
    suffixes = {".py", ".yaml", ".action", ".srv", ".xml", ".rviz", ".json"}
    for folder in SOURCES:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in suffixes and path != Path(__file__):
                words |= set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    return words | set(re.findall(r"\w+", read("dev") + read("setup.py") + read("package.xml")))


def test_parameter_documents_are_up_to_date(load_script):
    tool = load_script("tools/document_parameters.py")
    remedy = "run: ./dev run python tools/document_parameters.py"
    assert read("config/redepth.yaml") == tool.write_yaml(), remedy
    assert read("docs/reference/parameters.md") == tool.write_markdown(), remedy


def test_all_files_name_one_version():
    for manifest in (ROOT / "package.xml", *ROOT.glob("interfaces/*/package.xml")):
        assert ElementTree.parse(manifest).findtext("version") == redepth_ros.__version__, manifest
    assert f"\nversion: {redepth_ros.__version__}\n" in read("CITATION.cff")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)]+)\)", without_fences(read(document))):
        if "://" in target:
            continue
        path, _, fragment = target.partition("#")
        found = (ROOT / document).parent / path if path else ROOT / document
        assert found.exists(), target
        if fragment:
            assert fragment in anchors_of(found.resolve()), target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_named_files_exist(document):
    pattern = r"`((?:redepth_ros|test|docs|training|bench|config|tools|launch|interfaces)/[\w./-]+)`"
    for path in re.findall(pattern, read(document)):
        assert (ROOT / path).exists(), path


def test_documents_named_in_the_code_exist():
    for folder in SOURCES:
        for path in (ROOT / folder).rglob("*.py"):
            for document in re.findall(r"\bdocs/[\w/-]+\.(?:md|png)", path.read_text(encoding="utf-8")):
                assert (ROOT / document).exists(), f"{path}: {document}"


def test_folders_of_the_package_are_listed_with_their_imports(load_script):
    rows = re.findall(r"^\| `redepth_ros/(\w+)` \|.*\| (.*) \|$", read("CONTRIBUTING.md"), re.MULTILINE)
    listed = {folder: set(imports.split(", ")) | {folder} for folder, imports in rows}
    rules = load_script("test/core/test_import_rule.py").ALLOWED
    assert listed == rules | {"core": {"core", "torch", "NumPy", "standard library"}}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_old_names_are_gone(document):
    for pattern in OLD_NAMES:
        assert not re.search(pattern, read(document)), re.search(pattern, read(document))


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if not d.startswith("docs/how-to/")])
def test_named_identifiers_occur_in_the_code(document):
    """How-to documents name parameters of other software, too."""
    for word in re.findall(r"`([a-z][a-z0-9]*(?:_[a-z0-9]+)+)`", read(document)):
        assert word in source_words(), word


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_exist(document):
    text = read(document)
    for name in re.findall(r"\./dev bench ([a-z]\w*)", text):
        assert (ROOT / "bench" / f"{name}.py").is_file(), name
    for name, options in re.findall(r"\./dev bench ([a-z]\w*)((?: --[a-z-]+| [\w./]+)*)", text):
        for option in re.findall(r"--[a-z-]+", options):
            assert f'"{option}"' in read(f"bench/{name}.py"), f"{name} {option}"
    for name in re.findall(r"\./dev ([a-z]\w*)", text):
        assert re.search(rf"^  {name}\)", read("dev"), re.MULTILINE), name
    executables = set(re.findall(r'"(\w+) = redepth_ros', read("setup.py")))
    for name in re.findall(r"\./dev run ([a-z]\w*)", text):
        assert name in executables | {"python", "ros2"}, name
    for name in re.findall(r"ros2 run redepth_ros (\w+)", text):
        assert name in executables, name


def options_of(command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", capsys.readouterr().out))


def test_commands_have_the_options_that_documents_give_them(capsys):
    given: dict[str, set[str]] = {}
    for document in DOCUMENTS:
        text = read(document).replace("\\\n", " ")
        for command, rest in re.findall(r"^ {4,}[^#\n]*\bredepth ([a-z]+)( .*)?$", text, re.MULTILINE):
            given.setdefault(command, set()).update(re.findall(r"--[a-z][a-z0-9-]+", rest))
    assert "--prior" in given["refine"]
    for command, options in given.items():
        assert options <= options_of(command, capsys), command


@pytest.mark.parametrize("document", DOCUMENTS)
def test_ros2_commands_have_their_counterpart(document):
    """ROS 2 from PyPI has no command `ros2`."""
    text = read(document)
    if re.search(r"^ {4,}ros2 (run|launch)", text, re.MULTILINE):
        assert "./dev run" in text


def arguments_in(path: str, name: str) -> dict[str, str]:
    """The defaults of a dictionary of launch arguments; launch itself is not on PyPI."""
    found: dict[str, str] = {}
    for node in ast.parse(read(path)).body:
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)):
            continue
        if getattr(node.targets[0], "id", "") == name:
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                if key is None:
                    found |= arguments_in("redepth_ros/ros/launch_arguments.py", ast.unparse(value))
                else:
                    found[ast.literal_eval(key)] = default_of(ast.literal_eval(key), value)
    return found


def default_of(name: str, call: ast.expr) -> str:
    assert isinstance(call, ast.Call)
    options = {option.arg: option.value for option in call.keywords}
    default = call.args[1] if len(call.args) > 1 else options.get("default")
    if default is not None:
        return ast.literal_eval(default) if isinstance(default, ast.Constant) else "config/redepth.yaml"
    if "nodes" not in options:
        return ""
    for settings in (DepthSettings, ServerSettings):
        for field, _ in settings.declared():
            if field.name == name:
                return str(field.default)
    raise AssertionError(f"no node has the parameter {name}")


def launch_arguments(name: str) -> dict[str, str]:
    path = f"launch/{name}.launch.py"
    return arguments_in(path, "ARGUMENTS") | arguments_in(path, "FORWARDED")


@pytest.mark.parametrize("name", ["redepth", "mapping"])
def test_launch_arguments_are_documented_with_their_defaults(name):
    section = section_of("docs/reference/launch.md", f"{name}.launch.py")
    rows = dict(re.findall(r"^\| `(\w+)` \|([^|]*)\|", section, re.MULTILINE))
    arguments = launch_arguments(name)
    assert sorted(rows) == sorted(arguments)
    for argument, default in arguments.items():
        assert rows[argument].strip() == (f"`{default}`" if default else ""), argument


def test_values_are_given_to_names_that_exist():
    known = {"__ns", "image", "depth", "points", *launch_arguments("redepth"), *launch_arguments("mapping")}
    known |= set(re.findall(r"^    (\w+): ", read("config/redepth.yaml"), re.MULTILINE)) | {"use_sim_time"}
    for document in DOCUMENTS:
        for name in re.findall(r"(\w+):=", read(document)):
            assert name in known, f"{document}: {name}"


def test_topics_are_those_of_the_nodes():
    pattern = r'"((?:depth|image|refined|anchors)/[\w/]+)"'
    folders = (ROOT / "redepth_ros" / "nodes", ROOT / "redepth_ros" / "ros")
    files = [path for folder in folders for path in folder.rglob("*.py")]
    published = {topic for path in files for topic in re.findall(pattern, path.read_text(encoding="utf-8"))}
    documented = set(
        re.findall(r"^\| `((?:depth|image|refined)/[\w/]+)`", read("docs/reference/topics.md"), re.MULTILINE)
    )
    assert published - {"anchors/depth", "anchors/points"} == documented


def literal_keys(path: Path) -> set[str]:
    """The constant keys of all dictionaries in a module."""
    keys: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        found: list[ast.expr | None] = []
        if isinstance(node, ast.Dict):
            found = list(node.keys)
        elif isinstance(node, ast.Assign):
            found = [target.slice for target in node.targets if isinstance(target, ast.Subscript)]
        keys |= {key.value for key in found if isinstance(key, ast.Constant) and isinstance(key.value, str)}
    return keys


def test_encodings_are_documented():
    sentence = section_of("docs/reference/topics.md", "redepth_node").split("Encodings of `image`:")[1]
    for encoding in literal_keys(ROOT / "redepth_ros/ros/msgs/images.py"):
        assert re.search(rf"\b{encoding}\b", sentence), encoding


def test_diagnostics_keys_are_documented():
    modules = [*(ROOT / "redepth_ros" / "nodes").glob("*.py"), ROOT / "redepth_ros/ros/node/diagnostics.py"]
    published = {key for path in modules for key in literal_keys(path)} | {one.label for one in Outcome}
    documented = re.findall(r"^\| `([^`]+)` \|", read("docs/reference/diagnostics.md"), re.MULTILINE)
    assert sorted(documented) == sorted(published)


def options_in(section: str) -> set[str]:
    return set(re.findall(r"^\| `(--[a-z0-9-]+)", section, re.MULTILINE))


def test_every_command_is_documented(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = re.findall(r"^    ([a-z]+)(?: |$)", capsys.readouterr().out, re.MULTILINE)
    assert sorted(commands) == sorted(
        re.findall(r"^## redepth (\w+)$", read("docs/reference/cli.md"), re.MULTILINE)
    )


@pytest.mark.parametrize(
    "command", re.findall(r"^## redepth (\w+)$", read("docs/reference/cli.md"), re.MULTILINE)
)
def test_command_line_options_are_documented(command, capsys):
    options = {option for option in options_of(command, capsys) if not option.startswith("--no-")}
    section = section_of("docs/reference/cli.md", f"redepth {command}")
    documented = options_in(section)
    for shared in ("Workers", "Network options", "Settings of the refinement", "Settings of the depth"):
        if f"(#{shared.lower().replace(' ', '-')})" in section:
            documented |= options_in(section_of("docs/reference/cli.md", shared))
    assert documented == options - {"--help"}


def test_settings_of_the_refinement_are_documented():
    section = section_of("docs/reference/cli.md", "Settings of the refinement")
    for field, setting in RefineSettings.declared():
        values = " | ".join(str(getattr(PRESETS[preset], field.name)) for preset in ("default", "paper"))
        row = f"| `--{field.name.replace('_', '-')}` | {values} | {setting.description} |"
        assert row in section


def test_the_method_says_what_each_guard_stops():
    first = section_of("docs/explanation/method.md", "Guards").split("\n- **")[0]
    listed = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| [^|]+ \|([^|]+)\|", first, re.MULTILINE)))
    guards = ("trust_region_", "max_", "min_", "held_out_")
    assert listed == [field.name for field, _ in RefineSettings.declared() if field.name.startswith(guards)]


def test_the_method_says_how_the_published_normals_are_mirrored():
    """test/core/test_relighting.py compares them."""
    assert "mirrored in x **and**\nin y" in read("docs/explanation/method.md")


@pytest.mark.parametrize(
    ("interface", "heading"),
    [("action/RefineDepth.action", "RefineDepth"), ("srv/GetFrame.srv", "GetFrame")],
)
def test_interface_fields_are_documented(interface, heading):
    section = section_of("docs/reference/interfaces.md", heading)
    lines = read(f"interfaces/redepth_interfaces/{interface}").splitlines()
    fields = [line.split()[:2] for line in lines if line.strip() and line[0] not in "#-" and "=" not in line]
    assert re.findall(r"^\| `(\w+)` \| ([a-z][\w/\[\]]+) \|", section, re.MULTILINE) == [
        (n, t) for t, n in fields
    ]


def test_quoted_messages_are_those_of_the_code():
    section = section_of("docs/how-to/troubleshooting.md", "No depth at all")
    quoted = re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "redepth_ros").rglob("*.py")]
    assert quoted
    for message in quoted:
        assert any(message in source for source in sources), message


def test_rosdep_keys_are_named():
    named = set(
        re.findall(r"`([\w-]+)`", section_of("docs/how-to/release.md", "Dependencies and rosdep keys"))
    )
    for manifest in (ROOT / "package.xml", *ROOT.glob("interfaces/*/package.xml")):
        for element in ElementTree.parse(manifest).getroot():
            if element.tag.endswith("depend"):
                assert element.text in named, f"{manifest}: {element.text}"


def python_blocks(document: str) -> str:
    """The Python of a document as one program."""
    text = read(document)
    blocks = re.findall(r"^( *)```python\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return "\n".join(re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in blocks)


TUTORIALS = [document for document in DOCUMENTS if document.startswith("docs/tutorials/")]


@pytest.mark.parametrize("document", TUTORIALS)
def test_programs_in_tutorials_run(document, tmp_path, monkeypatch, capsys):
    """A program marked "compiled, not run" needs something that is not here, such as a running node."""
    program = compile(python_blocks(document), document, "exec")
    if "<!-- compiled, not run" in read(document):
        return
    monkeypatch.chdir(tmp_path)
    exec(program, {"__name__": "__main__"})
    printed = dict(re.findall(r"^(\w+): AbsRel ([\d.]+)$", capsys.readouterr().out, re.MULTILINE))
    for name, error in re.findall(r"^ {4}(\w+): AbsRel ([\d.]+)$", read(document), re.MULTILINE):
        assert float(printed[name]) == pytest.approx(float(error), rel=0.1)


def test_readme_is_short():
    assert len(read("README.md").splitlines()) <= 120
